"""Data of training: datasets, their split, augmentation, synthetic cars."""
