"""`python -m tests.performance.gpu_day.machine`: what the day runs on, and whether it works."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import onnxruntime
import torch

from app.errors import ModelFolderError, ProviderUnavailable
from app.model.manifest import read_model_folder
from model_training.distributed import world
from model_training.torch_utils import has_bf16
from tests.performance.gpu.card import cuda_device, describe_card
from tests.performance.machine import describe_machine


def describe(device: str, model_dir: Path) -> dict[str, str]:
    """The machine, for the head of the report.

    Raises:
        ValueError, ProviderUnavailable, ModelFolderError: PyTorch or ONNX Runtime cannot use the device.
    """
    card = {}
    if device == "cuda":
        cuda_device(model_dir, read_model_folder(model_dir).manifest)
        card = {"GPU": describe_card(), "CUDA of PyTorch": str(torch.version.cuda)}
    with world(device) as here:
        torch.ones(2, device=here.device).sum().item()
        bf16 = has_bf16(here.device)
    return {
        **describe_machine(),
        **card,
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "training": f"PyTorch {torch.__version__}, {'bfloat16' if bf16 else 'float32'}",
        "compiler": shutil.which("gcc") or shutil.which("cc") or "none: torch.compile will fail",
        "providers of ONNX Runtime": ", ".join(onnxruntime.get_available_providers()),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the description; 1 where the device does not work."""
    parser = argparse.ArgumentParser(prog="python -m tests.performance.gpu_day.machine", description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], required=True)
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        found = describe(options.device, options.model_dir)
    except (ValueError, ProviderUnavailable, ModelFolderError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
