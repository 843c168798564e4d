"""What the NVIDIA driver says about GPU memory, read through NVML.

NVML creates no CUDA context and survives a fork. It is opened and closed for every reading: an
open handle keeps laptop GPUs from sleeping (cosmic-ext-applet-system-monitor 38).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from docling_serve.vram.nvml_library import Handle, NvmlLibrary, NvmlMemory, load_nvml
from docling_serve.vram.readings import GpuDevice, GpuProcess, GpuReading, GpuState
from docling_serve.vram.visibility import select_visible

__all__ = ["GpuDevice", "GpuProbe", "GpuProcess", "GpuReading", "GpuState"]

LOCK_WAIT_S = 2.0
"""How long a reading waits for another one before the driver counts as not answering."""


class GpuProbe:
    """Reads GPU memory; never raises, never creates a CUDA context.

    Readings block on the driver: some ms, up to seconds where nothing keeps the GPU initialised.
    From an event loop, call them in a thread. Safe to share between threads.
    """

    def __init__(
        self,
        nvml: NvmlLibrary | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        cache_s: float = 1.0,
        lock_wait_s: float = LOCK_WAIT_S,
    ) -> None:
        """``nvml`` is the library to use (default: ``pynvml``, imported at the first reading),
        ``environ`` where ``CUDA_VISIBLE_DEVICES`` is looked up (default: the process's).
        """
        self._nvml = nvml
        self._loaded = nvml is not None
        self._environ = os.environ if environ is None else environ
        self._clock = clock
        self._cache_s = cache_s
        self._lock_wait_s = lock_wait_s
        self._lock = threading.Lock()
        self._last: tuple[float, GpuReading] | None = None

    def read(self, max_age_s: float | None = None) -> GpuReading:
        """The visible GPUs, from a reading at most ``max_age_s`` old (default: one second)."""
        # A driver call that hangs holds the lock: the others must not hang with it.
        if not self._lock.acquire(timeout=self._lock_wait_s):
            return GpuReading(GpuState.UNKNOWN, reason="the GPU driver does not answer")
        try:
            age_s = self._cache_s if max_age_s is None else max_age_s
            if self._last is not None and self._clock() - self._last[0] < age_s:
                return self._last[1]
            reading = self._read_now()
            self._last = (self._clock(), reading)
            return reading
        finally:
            self._lock.release()

    def visible_devices(self) -> tuple[GpuDevice, ...] | None:
        """The GPUs this process may use, empty without any; None if the driver doesn't tell."""
        reading = self.read()
        return None if reading.state is GpuState.UNKNOWN else reading.devices

    def _read_now(self) -> GpuReading:
        if not self._loaded:
            self._nvml, self._loaded = load_nvml(), True
        nvml = self._nvml
        if nvml is None:
            return GpuReading(GpuState.NONE, reason="nvidia-ml-py is not installed")
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as exc:
            absent = (nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_DRIVER_NOT_LOADED)
            if _code(exc) in absent:
                return GpuReading(GpuState.NONE, reason=f"no NVIDIA driver ({exc})")
            return GpuReading(GpuState.UNKNOWN, reason=f"the NVIDIA driver reports: {exc}")
        try:
            return _read_devices(nvml, self._environ.get("CUDA_VISIBLE_DEVICES"))
        except nvml.NVMLError as exc:
            return GpuReading(GpuState.UNKNOWN, reason=f"the NVIDIA driver reports: {exc}")
        finally:
            _shut_down(nvml)


@dataclass(frozen=True)
class _Candidate:
    """A device before its memory is read; without ``uuid`` it could not even be opened."""

    index: int
    handle: Handle = None
    uuid: str | None = None
    error: str = ""


def _read_devices(nvml: NvmlLibrary, visible: str | None) -> GpuReading:
    candidates = _list_candidates(nvml)
    chosen = select_visible(visible, [candidate.uuid for candidate in candidates])
    if not chosen:
        hidden = f"CUDA_VISIBLE_DEVICES={visible} hides all GPUs" if candidates else "no GPU"
        return GpuReading(GpuState.NONE, reason=hidden)
    devices: list[GpuDevice] = []
    processes: dict[str, tuple[GpuProcess, ...]] = {}
    unreadable: list[str] = []
    visible_ones = [candidates[c] if isinstance(c, int) else _open(nvml, c) for c in chosen]
    for candidate in visible_ones:
        device = _read_device(nvml, candidate)
        if isinstance(device, str):
            unreadable.append(device)
            continue
        devices.append(device)
        listed = _read_processes(nvml, candidate.handle)
        if listed is not None:
            processes[device.uuid] = listed
    state = GpuState.KNOWN if devices else GpuState.UNKNOWN
    reason = "" if devices else "; ".join(unreadable)
    order = tuple(candidate.uuid for candidate in visible_ones)
    return GpuReading(state, tuple(devices), processes, tuple(unreadable), reason, order)


def _list_candidates(nvml: NvmlLibrary) -> list[_Candidate]:
    """All devices CUDA could use, in NVML's order; MIG devices in place of their GPU."""
    found: list[_Candidate] = []
    for gpu_index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(gpu_index)
            # Inside a container the GPU of a MIG device may not be read (NVIDIA/
            # nvidia-container-toolkit 842), so only its MIG devices are.
            parts = _mig_handles(nvml, handle)
            for part in [handle] if parts is None else parts:
                found.append(_Candidate(len(found), part, nvml.nvmlDeviceGetUUID(part)))
        except nvml.NVMLError as exc:
            found.append(_Candidate(len(found), error=f"GPU {gpu_index}: {exc}"))
    return found


def _mig_handles(nvml: NvmlLibrary, handle: Handle) -> list[Handle] | None:
    """The MIG devices of a GPU; None if it isn't in MIG mode."""
    try:
        if nvml.nvmlDeviceGetMigMode(handle)[0] == 0:
            return None
    except nvml.NVMLError:
        return None  # most GPUs don't know MIG
    handles: list[Handle] = []
    for slot in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            handles.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot))
        except nvml.NVMLError as exc:
            if _code(exc) != nvml.NVML_ERROR_NOT_FOUND:  # that is an empty slot
                raise
    return handles


def _open(nvml: NvmlLibrary, uuid: str) -> _Candidate:
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        return _Candidate(-1, handle, nvml.nvmlDeviceGetUUID(handle))
    except nvml.NVMLError as exc:
        return _Candidate(-1, error=f"{uuid}: {exc}")


def _read_device(nvml: NvmlLibrary, candidate: _Candidate) -> GpuDevice | str:
    """The device with its memory, or the reason why there are no figures."""
    uuid = candidate.uuid
    if uuid is None:
        return candidate.error
    try:
        name = nvml.nvmlDeviceGetName(candidate.handle)
        memory = _memory(nvml, candidate.handle)
    except nvml.NVMLError as exc:
        return f"{uuid}: {exc}"
    return GpuDevice(candidate.index, uuid, name, memory.total, memory.used, memory.free)


def _memory(nvml: NvmlLibrary, handle: Handle) -> NvmlMemory:
    """Version 2 leaves the driver's own memory out of ``used``: an idle A100 has 8 MB in use, and
    912 MB by version 1 (Cldfire/nvml-wrapper 57). Drivers before 510 have version 1 only.
    """
    try:
        return nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2)
    except nvml.NVMLError as exc:
        older = (
            nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
            nvml.NVML_ERROR_NOT_SUPPORTED,
        )
        if _code(exc) not in older:
            raise
    return nvml.nvmlDeviceGetMemoryInfo(handle)


def _read_processes(nvml: NvmlLibrary, handle: Handle) -> tuple[GpuProcess, ...] | None:
    try:
        listed = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        return None
    return tuple(GpuProcess(process.pid, process.usedGpuMemory) for process in listed)


def _shut_down(nvml: NvmlLibrary) -> None:
    try:
        nvml.nvmlShutdown()
    except nvml.NVMLError:
        return  # the reading stands; the next one opens the library anew


def _code(exc: Exception) -> int | None:
    value = getattr(exc, "value", None)
    return value if isinstance(value, int) else None
