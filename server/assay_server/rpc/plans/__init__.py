"""InterventionService."""
