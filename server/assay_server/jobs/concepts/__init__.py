"""Concepts, feature clusters and labels."""
