"""CUDA's own order of the GPUs, which determines what ``cuda:1`` means.

NVML counts GPUs in the order of their PCI addresses. CUDA puts the fastest first, unless
``CUDA_DEVICE_ORDER=PCI_BUS_ID`` is set, and applies ``CUDA_VISIBLE_DEVICES`` in its own order. What
it considers fastest is not documented, so CUDA itself is asked, in a process that exits at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

QUERY_LIMIT_S = 30.0
"""Where nothing keeps the GPUs initialised, CUDA takes seconds for each one."""

_PROGRAM = Path(__file__).with_name("cuda_query.py")


@dataclass(frozen=True)
class CudaDevice:
    """A GPU as CUDA shows it; ``uuid`` is 32 hexadecimal digits."""

    uuid: str
    name: str


@dataclass(frozen=True)
class CudaDevices:
    """The GPUs that CUDA shows to this process, ``cuda:0`` first. ``error`` says in words why there
    are none, or why they are not known."""

    devices: tuple[CudaDevice, ...] = ()
    error: str = ""


def ask_cuda(limit_s: float = QUERY_LIMIT_S) -> CudaDevices:
    """Ask CUDA, in a process of its own with the environment of this one. Blocks; never raises."""
    try:
        done = subprocess.run(
            [sys.executable, "-IS", str(_PROGRAM)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        answer = json.loads(done.stdout)
        devices = tuple(CudaDevice(each["uuid"], each["name"]) for each in answer["devices"])
        return CudaDevices(devices, answer["error"])
    except subprocess.TimeoutExpired:
        return CudaDevices(error=f"CUDA did not answer within {limit_s:g} s")
    except (OSError, ValueError, KeyError, TypeError) as exc:
        return CudaDevices(error=f"CUDA could not be queried: {exc}")
