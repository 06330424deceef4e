"""Evaluation of a model: reconstructions, samples, the feature network that judges them, plots."""
