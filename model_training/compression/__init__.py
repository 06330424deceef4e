"""Compression: the fit of a compressor, and its rate-distortion curve beside those of image formats."""
