"""What actors write, where it is kept, and what learners read."""
