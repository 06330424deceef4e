"""HTTP service of a VAE, without torch; importing it sets thread and telemetry variables of its libraries."""

import os
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version

# Read when ONNX Runtime is imported: without it, it reports to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Read when NumPy is imported: its products here are small, and threads that wait for each other only heat.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def version() -> str:
    """The version of the package, as pyproject.toml gave it when the package was installed."""
    try:
        return package_version("car-vae")
    except PackageNotFoundError:  # run from a checkout
        return "0"
