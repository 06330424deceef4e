"""Latents to bytes and back. Shared with training."""
