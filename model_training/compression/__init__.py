"""Compression: the fit of a compressor, and rate against distortion."""
