"""Plans of interventions: compiled, kept, measured, applied."""
