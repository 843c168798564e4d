"""The machine of a run, in words."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from benchmarks.memory import MB, devices

_LIBRARIES = ("docling-serve", "docling-slim", "docling-core", "docling-jobkit", "onnxruntime")
BUSY_LOAD = 0.5  # per processor; above it, other programs use the machine


def describe() -> dict[str, str]:
    """Processors, memory, GPUs, versions."""
    return {
        "Processor": f"{_processor()}, {os.cpu_count()} logical",
        "Memory": f"{psutil.virtual_memory().total / MB / 1000:.0f} GB",
        "GPU": ", ".join(devices()) or "none",
        "System": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "Versions": ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES),
    }


def load_per_processor() -> float:
    """The load average of the last minute, per processor."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def _processor() -> str:
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        told = []
    names = [line for line in told if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else platform.processor() or "unknown"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
