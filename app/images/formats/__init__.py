"""Readers, one for each format: a file is screened before it is decoded, and every pixel accounted for."""
