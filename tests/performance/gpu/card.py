"""The card: whether it can be used, and what it is."""

import subprocess
from pathlib import Path

import torch

from app.errors import ProviderUnavailable
from app.inference.session import CUDA, SessionSpec, _load_cuda, encoder_graph, open_sessions
from app.model.manifest import Manifest, read_model_file
from tests.performance.gpu.calls import Device


def cuda_device(folder: Path, manifest: Manifest) -> Device:
    """The first card.

    Raises:
        ProviderUnavailable: ONNX Runtime or PyTorch cannot use one; in one line, why.
    """
    _load_cuda()
    if not torch.cuda.is_available():
        raise ProviderUnavailable("PyTorch sees no CUDA device: no card, no driver, or a CPU build of torch")
    graph = encoder_graph(manifest)
    open_sessions({graph: read_model_file(folder, manifest.files.encoder)}, SessionSpec("cuda", 1))
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return Device(CUDA, torch.device("cuda", 0), torch.cuda.Stream())  # type: ignore[no-untyped-call]


def describe_card() -> str:
    """Name and memory of the card, and driver, as nvidia-smi says, else as PyTorch does."""
    command = [
        "nvidia-smi",
        "--id=0",
        "--query-gpu=name,memory.total,driver_version",
        "--format=csv,noheader",
    ]
    try:
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        name, memory, driver = (part.strip() for part in found.split(","))
    except (OSError, subprocess.CalledProcessError):
        return f"{torch.cuda.get_device_name(0)}, driver unknown"
    return f"{name}, {memory}, driver {driver}"
