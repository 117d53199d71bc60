"""ModelService and ScoringService."""
