"""Comparisons of rollouts."""
