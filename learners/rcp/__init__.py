"""Reward-conditioned policies: commanded returns, or advantages."""
