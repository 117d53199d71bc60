"""Audits: asked for, run, kept, read, decided about."""
