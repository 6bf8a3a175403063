"""The acting side: policies, the environment loop, evaluation, observers."""
