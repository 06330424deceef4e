"""HTTP service of a VAE, without torch; importing it sets thread and telemetry variables of its libraries."""

import os

# Read when ONNX Runtime is imported: without it, it reports to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Read when NumPy is imported: its products here are small, and threads that wait for each other only heat.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
