"""Image files to uint8 arrays and back. Shared with training."""
