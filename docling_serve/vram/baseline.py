"""Wait until a dead worker's GPU memory is really free.

Memory is freed in the exit path of the dying process, not when it is killed, so the code that
starts the next worker waits here first. There are two ways to know, the better one first:

1. By process. If the worker's PIDs were seen on a GPU while it ran, and none is listed any more,
   its memory is free, whatever other programs did meanwhile. Only PIDs that were seen count: inside
   a container the driver often lists the host's numbers, where ours never appear and their absence
   says nothing. This also holds on GPUs with coherent memory (GH200, GB200), where pages may stay
   counted after the exit (NVML, ``nvmlMemory_t``).
2. By device. Used memory is back at its level before the worker, within a tolerance. It is never
   compared with zero: the driver and other programs hold memory of their own. Another program's
   growth can hide the release, so the wait is bounded. On a GPU that shares the host's memory this
   says nothing.

Where the driver gives no figures there is nothing to wait for: the exit alone has to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

from docling_serve.vram.background import READ_LIMIT_S, read_in_background
from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.readings import GpuReading

RELEASE_TOLERANCE_BYTES = 64 * 1024**2
"""A good ``tolerance_bytes``: less than the smallest CUDA context (120 MB, ggml-org/llama.cpp PR
20595), so a context that stays is noticed."""


@dataclass(frozen=True)
class MemoryBaseline:
    """Bytes in use on each visible GPU, by UUID, before a worker took any."""

    used_bytes: Mapping[str, int]

    @classmethod
    def from_reading(cls, reading: GpuReading, only: str | None = None) -> MemoryBaseline:
        """Empty if the reading has no figures, or there is no GPU. ``only`` is the UUID of the one
        GPU that the worker uses."""
        return cls(
            {each.uuid: each.used_bytes for each in reading.devices if only in (None, each.uuid)}
        )

    @classmethod
    def take(cls, probe: GpuProbe) -> MemoryBaseline:
        """Read the driver now; blocks as :meth:`GpuProbe.read` does."""
        return cls.from_reading(probe.read(max_age_s=0))


@dataclass(frozen=True)
class DeviceRelease:
    """One GPU at the end of the wait; ``released`` and ``used_bytes`` are None if unknown."""

    uuid: str
    baseline_bytes: int
    used_bytes: int | None
    released: bool | None


@dataclass(frozen=True)
class ReleaseReport:
    """How the wait ended.

    ``released`` is True when every GPU freed its memory, False when one had not when the time ran
    out, None when there is no way to tell. ``reason`` is for the log.
    """

    devices: tuple[DeviceRelease, ...]
    waited_s: float
    released: bool | None
    reason: str


async def wait_until_released(
    probe: GpuProbe,
    baseline: MemoryBaseline,
    timeout_s: float,
    tolerance_bytes: int = RELEASE_TOLERANCE_BYTES,
    *,
    seen_pids: Collection[int] = (),
    poll_s: float = 0.25,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
    read_limit_s: float = READ_LIMIT_S,
) -> ReleaseReport:
    """Read the driver every ``poll_s`` until memory is at ``baseline`` again; never raises.

    Call it after the worker's exit was seen. ``baseline`` was taken before the worker started;
    ``seen_pids`` are its PIDs that :meth:`GpuReading.listed_pids` found while it ran. Returns at
    once, with ``released`` None, when there is no figure to wait for. Readings run in a thread, so
    the event loop is never blocked.
    """
    started = clock()
    while True:
        reading = await read_in_background(probe, limit_s=read_limit_s)
        devices = tuple(
            _judge(reading, uuid, used, tolerance_bytes, seen_pids)
            for uuid, used in baseline.used_bytes.items()
        )
        released = _overall(devices)
        waited_s = clock() - started
        if released is not False or waited_s >= timeout_s:
            return ReleaseReport(devices, waited_s, released, _explain(reading, devices, released))
        await sleep(min(poll_s, timeout_s - waited_s))


def _judge(
    reading: GpuReading,
    uuid: str,
    baseline_bytes: int,
    tolerance_bytes: int,
    seen_pids: Collection[int],
) -> DeviceRelease:
    device = reading.device(uuid)
    listed = reading.processes.get(uuid)
    used = None if device is None else device.used_bytes
    released: bool | None
    if listed is not None and seen_pids:
        released = not any(process.pid in seen_pids for process in listed)
    elif device is not None and not device.of_host:
        released = device.used_bytes <= baseline_bytes + tolerance_bytes
    else:
        released = None
    return DeviceRelease(uuid, baseline_bytes, used, released)


def _overall(devices: tuple[DeviceRelease, ...]) -> bool | None:
    states = {device.released for device in devices}
    if False in states:
        return False
    return None if None in states or not states else True


def _explain(reading: GpuReading, devices: tuple[DeviceRelease, ...], released: bool | None) -> str:
    if released:
        return "GPU memory is free again"
    if released is None:
        unknown = reading.reason or "; ".join(reading.unreadable) or "there is no baseline"
        return f"GPU memory is not known: {unknown}"
    held = [device for device in devices if device.released is False]
    return "GPU memory is not free yet: " + ", ".join(
        f"{device.uuid} has {_mib(device.used_bytes)} in use, {_mib(device.baseline_bytes)} before"
        for device in held
    )


def _mib(size_bytes: int | None) -> str:
    return "an unknown amount" if size_bytes is None else f"{size_bytes / 1024**2:.0f} MiB"
