"""The speed of a training step beside two usual ways to train."""
