"""Tabular single-goal contrastive RL, in NumPy."""
