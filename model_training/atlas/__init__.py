"""Atlas: named directions of a model's latents, what a car looks like to it, and a map of drawn cars."""
