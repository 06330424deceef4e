"""Trains the variational autoencoder, measures it and exports it to ONNX."""

import os

# Read when ONNX Runtime is imported: without it, it reports to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
