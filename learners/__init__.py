"""Algorithms, one folder each, and the shell that drives any of them."""
