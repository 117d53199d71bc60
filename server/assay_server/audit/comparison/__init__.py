"""Rollouts before and after training against what the dataset predicted (METHOD.md §5)."""
