"""Whether conversions run in worker processes, by setting or by the size of the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.readings import GpuState

SMALL_GPU_BYTES = 12 * 1024**3
"""Up to this total, ``auto`` frees memory after every task.

The guide asks for it below 12 GiB by CUDA's count. NVML counts more than CUDA, which leaves out the
driver's own share: an RTX 3060 of 12 GB has 12,288 MiB by NVML and 11.76 GiB by torch. So 12 GiB
count too.
"""


@dataclass(frozen=True)
class SubprocessDecision:
    """``enabled``, and the reason for the log and the health report."""

    enabled: bool
    reason: str


def decide_mode(setting: bool | Literal["auto"], probe: GpuProbe) -> SubprocessDecision:
    """Decide ``use_subprocess_for_ocr``; reads the driver only for ``auto``, and never raises.

    ``auto`` is on when the smallest visible GPU has at most 12 GiB in total: the smallest, because
    a worker may get any of them. Without a GPU it is off: there is no GPU memory to free, and an
    operator who wants process isolation on a CPU sets ``true``. With a GPU whose driver gives no
    figures it is on: conversions give the same answers and only start later, while "off" could
    leave a small GPU full.
    """
    if setting != "auto":
        return SubprocessDecision(setting, f"set to {'true' if setting else 'false'}")
    reading = probe.read()
    probe.close()
    if reading.state is GpuState.NONE:
        return SubprocessDecision(
            False,
            f"auto: no NVIDIA GPU whose memory could be freed ({reading.reason}); true turns it on",
        )
    if reading.state is GpuState.UNKNOWN:
        return SubprocessDecision(
            True,
            f"auto: the size of the GPU is not known ({reading.reason}), so the mode is on",
        )
    smallest = min(reading.devices, key=lambda device: device.total_bytes)
    small = smallest.total_bytes <= SMALL_GPU_BYTES
    size = f"{smallest.name} has {smallest.total_bytes / 1024**3:.1f} GiB"
    limit = f"{'not more' if small else 'more'} than {SMALL_GPU_BYTES / 1024**3:.0f} GiB"
    return SubprocessDecision(small, f"auto: {size}, {limit}")
