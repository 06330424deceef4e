"""Evaluation: reconstructions, samples, and the plots of both."""
