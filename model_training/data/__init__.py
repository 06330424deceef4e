"""Training data: datasets, their split, augmentation, synthetic cars."""
