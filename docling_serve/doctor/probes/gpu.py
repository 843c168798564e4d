"""The driver, the cards, and the processes that hold memory on them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from docling_serve.doctor.facts import Card, GpuFacts, Holder
from docling_serve.vram.cuda_order import ask_cuda
from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.nvml_library import load_nvml
from docling_serve.vram.readings import GpuReading

_DEVICE_FILES = ("nvidia[0-9]*", "dxg")  # NVIDIA's driver, and that of WSL
_GRAPHICS_LISTS = (
    "nvmlDeviceGetGraphicsRunningProcesses",
    "nvmlDeviceGetGraphicsRunningProcesses_v2",
)
_KERNEL_MODULE = Path("/proc/driver/nvidia/version")
_OURS = re.compile(r"docling[-_]serve")


def answer(tell: Callable[[Any], None]) -> None:
    """Report :class:`GpuFacts`."""
    shown = ask_cuda()
    probe = GpuProbe()
    if shown.devices:
        probe.count_as_cuda([device.uuid for device in shown.devices])
    reading = probe.read(max_age_s=0)
    version, cuda = _driver()
    tell(
        asdict(
            GpuFacts(
                state=reading.state.value,
                reason=reading.reason,
                cards=[
                    Card(each.index, each.uuid, each.name, each.total_bytes, each.used_bytes)
                    for each in reading.devices
                ],
                holders=_holders(reading),
                unreadable=list(reading.unreadable),
                driver_version=version,
                cuda_version=cuda,
                device_files=sorted(
                    str(found) for name in _DEVICE_FILES for found in Path("/dev").glob(name)
                ),
                visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
                cuda_order=[_as_nvml_writes_it(device.uuid, reading) for device in shown.devices],
                cuda_error=shown.error,
            )
        )
    )


def _as_nvml_writes_it(digits: str, reading: GpuReading) -> str:
    """CUDA gives a UUID as 32 hexadecimal digits."""
    known = (card.uuid for card in reading.devices)
    return next((uuid for uuid in known if uuid[4:].replace("-", "") == digits), digits)


def _driver() -> tuple[str | None, int | None]:
    """Version of the driver, and the newest CUDA it supports."""
    version: str | None = None
    cuda: int | None = None
    nvml: Any = load_nvml()
    if nvml is not None:
        # A reading that fails gives its reason elsewhere.
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlInit()
            with contextlib.suppress(nvml.NVMLError):
                version = nvml.nvmlSystemGetDriverVersion()
            with contextlib.suppress(nvml.NVMLError):
                cuda = nvml.nvmlSystemGetCudaDriverVersion_v2()
    if version is None and _KERNEL_MODULE.is_file():
        found = re.search(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", _KERNEL_MODULE.read_text())
        version = found[1] if found else None
    return version, cuda


def _holders(reading: GpuReading) -> list[Holder]:
    """Processes with a CUDA context, then those that only use graphics."""
    found = {
        (uuid, process.pid): process.used_bytes
        for uuid, listed in reading.processes.items()
        for process in listed
    }
    for uuid, pid, used in _graphics([device.uuid for device in reading.devices]):
        found.setdefault((uuid, pid), used)
    return [
        Holder(uuid, pid, used, *_who(pid))
        for (uuid, pid), used in sorted(found.items(), key=lambda one: -(one[1] or 0))
    ]


def _graphics(uuids: Sequence[str]) -> Iterator[tuple[str, int, int | None]]:
    """Graphics processes. Most server cards, and some drivers, have no such list."""
    nvml: Any = load_nvml()
    for uuid in uuids:
        for name in _GRAPHICS_LISTS:
            # pynvml raises an error for old drivers that is not an NVMLError.
            with contextlib.suppress(Exception):
                handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
                for process in getattr(nvml, name)(handle):
                    yield uuid, process.pid, process.usedGpuMemory
                break


def _who(pid: int) -> tuple[str | None, bool]:
    """The name of a process, and whether it, or an ancestor, is a docling-serve."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.parents()]
        return process.name(), any(map(_is_ours, family))
    except psutil.Error:
        return None, False


def _is_ours(process: psutil.Process) -> bool:
    try:
        return any(_OURS.search(part) for part in process.cmdline()[:4])
    except psutil.Error:
        return False
