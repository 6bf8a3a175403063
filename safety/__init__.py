"""Regions the agent must keep out of: parsing, masking, enforcement, audit."""
