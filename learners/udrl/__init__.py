"""Upside-down RL: actions learned from what past episodes achieved."""
