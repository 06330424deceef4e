"""Trains the variational autoencoder, measures it and exports it to ONNX."""
