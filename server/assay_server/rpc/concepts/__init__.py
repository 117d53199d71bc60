"""ConceptService."""
