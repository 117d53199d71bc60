"""Long work: kept on disk from the moment it is asked for, run in bounded lanes, resumed after a crash."""
