"""Entropy coding: integers -> bytes and back under tables of frequencies, exact on every machine."""

PRECISION = 16
"""Bits of a frequency: those of one coefficient sum to 2**PRECISION."""
