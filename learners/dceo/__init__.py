"""Rainbow with Laplacian options (DCEO), and Rainbow alone."""
