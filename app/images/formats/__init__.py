"""Readers, one for each format: what stands in a file is checked before it is decoded, and every pixel while it is."""
