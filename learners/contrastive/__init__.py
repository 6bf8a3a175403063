"""Contrastive RL: CPC, NCE and C-learning critics, a goal-reaching actor."""
