"""The contents of a model folder: manifest, prior, latents. Shared with training."""
