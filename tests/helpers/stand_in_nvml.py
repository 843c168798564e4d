# The names are NVIDIA's:
# ruff: noqa: N802, N815
"""A stand-in for NVIDIA's driver library, for machines without a driver.

It plays ``pynvml`` as far as ``docling_serve.vram.nvml_library`` uses it, and follows a script:
a value may be given once, or as a list with one entry per reading, of which the last stays; an
entry that is an error is raised. A reading starts with ``nvmlInit``, or with counting the GPUs
where the library is open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

GIB = 1024**3

UNINITIALIZED = 1
NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
DRIVER_NOT_LOADED = 9
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
UNKNOWN = 999

_TEXTS = {
    UNINITIALIZED: "Uninitialized",
    NOT_SUPPORTED: "Not Supported",
    NO_PERMISSION: "Insufficient Permissions",
    NOT_FOUND: "Not Found",
    DRIVER_NOT_LOADED: "Driver Not Loaded",
    LIBRARY_NOT_FOUND: "NVML Shared Library Not Found",
    FUNCTION_NOT_FOUND: "Function Not Found",
    GPU_IS_LOST: "GPU is lost",
    UNKNOWN: "Unknown Error",
}

Listed = Sequence[tuple[int, int | None]]
"""Processes on a GPU: PID, and bytes or None."""


class StandInNvmlError(Exception):
    """Looks like ``pynvml.NVMLError``: ``value`` is the number of the error."""

    def __init__(self, value: int) -> None:
        super().__init__(_TEXTS[value])
        self.value = value


@dataclass(frozen=True)
class StandInMemory:
    total: int
    used: int
    free: int


@dataclass(frozen=True)
class StandInProcess:
    pid: int
    usedGpuMemory: int | None


@dataclass(eq=False)
class StandInGpu:
    """One GPU. ``used_bytes`` and ``processes`` (pairs of PID and bytes) may be scripts.

    ``mig`` turns MIG mode on, with these devices in its first slots. ``listed`` False: it can be
    opened by UUID only. ``opens`` False: the driver has it, but doesn't let us open it.
    """

    uuid: str
    total_bytes: int = 24 * GIB
    used_bytes: int | StandInNvmlError | Sequence[int | StandInNvmlError] = 0
    name: str = "Stand-in GPU"
    reserved_bytes: int = 0
    processes: Listed | StandInNvmlError | Sequence[Listed | StandInNvmlError] = ()
    mig: Sequence[StandInGpu] | None = None
    listed: bool = True
    opens: bool = True


@dataclass
class StandInNvml:
    """The library. ``init`` is a script: None for success, or an error.

    ``readings`` counts readings, ``inits`` calls of ``nvmlInit``, ``open_count`` those not yet shut
    down. ``on_init`` is called at each reading, and may block. ``has_memory_v2`` False plays a
    driver before 510.
    """

    gpus: Sequence[StandInGpu] = ()
    init: StandInNvmlError | Sequence[StandInNvmlError | None] | None = None
    on_init: Callable[[], None] | None = None
    has_memory_v2: bool = True
    readings: int = 0
    inits: int = 0
    open_count: int = 0
    _begun: bool = False
    NVMLError: type[Exception] = field(default=StandInNvmlError)
    NVML_ERROR_NOT_SUPPORTED: int = NOT_SUPPORTED
    NVML_ERROR_NOT_FOUND: int = NOT_FOUND
    NVML_ERROR_DRIVER_NOT_LOADED: int = DRIVER_NOT_LOADED
    NVML_ERROR_LIBRARY_NOT_FOUND: int = LIBRARY_NOT_FOUND
    NVML_ERROR_FUNCTION_NOT_FOUND: int = FUNCTION_NOT_FOUND
    NVML_ERROR_ARGUMENT_VERSION_MISMATCH: int = 25
    nvmlMemory_v2: int = 0x02000028

    def nvmlInit(self) -> None:
        self.inits += 1
        self._begin()
        self._begun = True
        self.open_count += 1

    def nvmlShutdown(self) -> None:
        self._require_open()
        self.open_count -= 1

    def nvmlDeviceGetCount(self) -> int:
        self._require_open()
        if not self._begun:
            self._begin()
        self._begun = False
        return len(self._listed())

    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> StandInGpu:
        gpu = self._listed()[index]
        if not gpu.opens:
            raise StandInNvmlError(UNKNOWN)
        return gpu

    def nvmlDeviceGetHandleByUUID(self, uuid: str, /) -> StandInGpu:
        self._require_open()
        parts = [part for gpu in self.gpus for part in gpu.mig or ()]
        for device in (*self.gpus, *parts):
            if device.uuid == uuid:
                return device
        raise StandInNvmlError(NOT_FOUND)

    def nvmlDeviceGetUUID(self, gpu: StandInGpu, /) -> str:
        return gpu.uuid

    def nvmlDeviceGetName(self, gpu: StandInGpu, /) -> str:
        return gpu.name

    def nvmlDeviceGetMemoryInfo(
        self, gpu: StandInGpu, version: int | None = None, /
    ) -> StandInMemory:
        self._require_open()
        if version is not None and not self.has_memory_v2:
            raise StandInNvmlError(FUNCTION_NOT_FOUND)
        used = self._now(gpu.used_bytes)
        free = gpu.total_bytes - used - gpu.reserved_bytes
        # Version 1 counts what the driver keeps for itself as used.
        return StandInMemory(gpu.total_bytes, used if version else gpu.total_bytes - free, free)

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: StandInGpu, /) -> list[StandInProcess]:
        self._require_open()
        return [StandInProcess(pid, used) for pid, used in self._now(gpu.processes)]

    def nvmlDeviceGetComputeRunningProcesses_v2(self, gpu: StandInGpu, /) -> list[StandInProcess]:
        return self.nvmlDeviceGetComputeRunningProcesses(gpu)

    def nvmlDeviceGetMPSComputeRunningProcesses(self, _gpu: StandInGpu, /) -> list[StandInProcess]:
        raise StandInNvmlError(NOT_SUPPORTED)

    def nvmlDeviceGetMigMode(self, gpu: StandInGpu, /) -> list[int]:
        self._require_open()
        if gpu.mig is None:
            raise StandInNvmlError(NOT_SUPPORTED)
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, _gpu: StandInGpu, /) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: StandInGpu, index: int, /) -> StandInGpu:
        parts = gpu.mig or ()
        if index >= len(parts):
            raise StandInNvmlError(NOT_FOUND)
        if not parts[index].opens:
            raise StandInNvmlError(NO_PERMISSION)
        return parts[index]

    def _begin(self) -> None:
        self.readings += 1
        if self.on_init is not None:
            self.on_init()
        self._now(self.init)

    def _listed(self) -> list[StandInGpu]:
        self._require_open()
        return [gpu for gpu in self.gpus if gpu.listed]

    def _require_open(self) -> None:
        if self.open_count == 0:
            raise StandInNvmlError(UNINITIALIZED)

    def _now(self, script: Any) -> Any:
        """The entry of ``script`` for the present reading; only lists are scripts."""
        entry = script
        if isinstance(script, list):
            entry = script[min(self.readings, len(script)) - 1]
        if isinstance(entry, StandInNvmlError):
            raise entry
        return entry
