"""Command line, topology and process supervision."""
