"""Compression: the fit of codes, and their rate-distortion curve beside those of image formats."""
