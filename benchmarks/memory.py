"""Memory of a server: resident on the host, and on GPUs by process and by device."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from docling_serve.vram.nvml import GpuProbe

MB = 1e6
_PSS_KB = re.compile(r"^Pss: +(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Use:
    """One moment, in MB of 10^6 bytes. ``total`` counts pages that two processes share twice.

    ``gpu_server`` is what the driver lists for the server's processes; None without a GPU, and
    where the driver lists other process numbers than ours (in many containers). ``gpu_devices``
    is what all programs hold on each visible device.
    """

    gateway: float
    total: float
    gpu_server: float | None
    gpu_devices: tuple[float, ...]


class MemoryMeter:
    """Reads the memory of the process tree below ``pid``."""

    def __init__(self, pid: int, probe: GpuProbe | None = None) -> None:
        self._server = psutil.Process(pid)
        self._probe = probe or GpuProbe()

    def take(self) -> Use:
        """The memory now."""
        pids, total = {self._server.pid}, self._server.memory_info().rss
        gateway = total
        for process in self._server.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
                pids.add(process.pid)
        reading = self._probe.read(max_age_s=0)
        listed = [one for group in reading.processes.values() for one in group if one.pid in pids]
        return Use(
            gateway / MB,
            total / MB,
            sum(one.used_bytes or 0 for one in listed) / MB if listed else None,
            tuple(device.used_bytes / MB for device in reading.devices),
        )

    def proportional(self) -> float | None:
        """MB of the tree, with each page divided by the number of processes that share it (PSS).

        None where the kernel denies this process the figure.
        """
        held = 0
        for process in (self._server, *self._server.children(recursive=True)):
            try:
                rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
            except PermissionError:
                return None
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just exited
            held += sum(1024 * int(kb) for kb in _PSS_KB.findall(rollup))
        return held / MB

    def settled(self, within_s: float = 10.0, still_s: float = 1.0) -> Use:
        """The memory once it has not moved by more than 1 MB for ``still_s``, or at the timeout."""
        deadline = time.monotonic() + within_s
        last, since = self.take(), time.monotonic()
        while time.monotonic() < deadline and time.monotonic() - since < still_s:
            time.sleep(0.1)
            now = self.take()
            if abs(now.total - last.total) > 1:
                last, since = now, time.monotonic()
        return last


def devices(probe: GpuProbe | None = None) -> list[str]:
    """Names of the visible GPUs; empty without one."""
    return [device.name for device in (probe or GpuProbe()).read().devices]


def poll_until(check: Callable[[], bool], within_s: float, what: str) -> None:
    """Wait for something that is only visible from outside.

    Raises:
        TimeoutError: it did not happen.
    """
    deadline = time.monotonic() + within_s
    while not check():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within_s:g} s")
        time.sleep(0.02)
