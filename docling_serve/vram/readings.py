"""What is known about GPU memory at one moment, as plain data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum


class GpuState(str, Enum):
    """What is known about the GPUs of this machine.

    ``NONE``: no NVIDIA driver, or no GPU visible. ``KNOWN``: at least one was read.
    ``UNKNOWN``: there is a driver, but it gave no figures; never treat that as zero.
    """

    NONE = "none"
    KNOWN = "known"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class GpuDevice:
    """One GPU or MIG device. ``used_bytes`` leaves out what the driver keeps for itself.

    ``index`` counts in NVML's order, with a GPU in MIG mode replaced by its MIG devices; it is -1
    for a MIG device that NVML opens by UUID but doesn't list. ``of_host``: it has no memory of its
    own, and the figures describe the host's memory.
    """

    index: int
    uuid: str
    name: str
    total_bytes: int
    used_bytes: int
    free_bytes: int
    of_host: bool = False


@dataclass(frozen=True)
class GpuProcess:
    """A process with a CUDA context. ``used_bytes`` is None if the driver gives none (WSL2).

    Inside a container many drivers give the PID as the host counts it (NVIDIA/nvidia-docker 179).
    """

    pid: int
    used_bytes: int | None


@dataclass(frozen=True)
class GpuReading:
    """The visible GPUs at one moment.

    ``processes`` is by UUID; a GPU missing from it gave no list. ``unreadable`` says, in words,
    which visible GPUs could not be read. ``reason`` says why ``state`` isn't ``KNOWN``. ``order``
    has the UUIDs of all visible GPUs, including unreadable ones, so that ``order[1]`` is
    ``cuda:1``; None stands for one that could not even be opened. ``listed_gpus`` counts all GPUs
    that the driver lists, including hidden ones.
    """

    state: GpuState
    devices: tuple[GpuDevice, ...] = ()
    processes: Mapping[str, tuple[GpuProcess, ...]] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    reason: str = ""
    order: tuple[str | None, ...] = ()
    listed_gpus: int = 0

    def device(self, uuid: str) -> GpuDevice | None:
        """The GPU with this UUID, or None if it wasn't read."""
        return next((device for device in self.devices if device.uuid == uuid), None)

    def listed_pids(self, pids: Collection[int]) -> frozenset[int]:
        """Those of ``pids`` that hold a context on any visible GPU."""
        listed = {process.pid for group in self.processes.values() for process in group}
        return frozenset(listed.intersection(pids))
