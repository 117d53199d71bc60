"""Long work: stored when it is submitted, run in lanes of bounded size, resumed after a crash."""
