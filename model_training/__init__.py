"""Training of the variational autoencoder, its export to ONNX and its evaluation."""

import os

# Read when ONNX Runtime is imported: without it, it reports to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
