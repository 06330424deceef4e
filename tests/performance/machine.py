"""What the figures were measured on."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import onnxruntime


def describe_machine() -> dict[str, str]:
    """CPU, cores, versions, how busy the machine was already, and the date."""
    busy = os.getloadavg()[0]
    return {
        "CPU": f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores",
        "software": f"Python {platform.python_version()}, ONNX Runtime {onnxruntime.__version__}, "
        f"Linux {platform.release()}",
        "load average": f"{busy:.1f} in the last minute",
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }


def cpu_model() -> str:
    """The name that /proc/cpuinfo gives, else the architecture."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
