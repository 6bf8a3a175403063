"""Environments: one file each, one registry line each."""
