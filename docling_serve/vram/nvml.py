"""What the NVIDIA driver says about GPU memory, read through NVML.

NVML creates no CUDA context and survives a fork. Once opened, it stays open between readings: where
neither a persistence daemon nor another program keeps the GPU initialised, opening it initialises
the GPU, which takes seconds (NVIDIA, "Driver Persistence"; wookayin/gpustat 166).
:meth:`GpuProbe.close` releases it when no readings are needed for a while, since an open handle
keeps a laptop's GPU from sleeping (cosmic-ext-applet-system-monitor 38).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from docling_serve.vram.nvml_devices import error_code, read_devices
from docling_serve.vram.nvml_library import NvmlLibrary, load_nvml
from docling_serve.vram.readings import GpuDevice, GpuProcess, GpuReading, GpuState

__all__ = ["GpuDevice", "GpuProbe", "GpuProcess", "GpuReading", "GpuState"]

LOCK_WAIT_S = 2.0
"""How long a reading waits for another one before the driver counts as not answering."""

_OF_WSL = "usr/lib/wsl/lib/libnvidia-ml.so.1"

_NO_NVML = (
    "a GPU is there, but not the library that reads its memory, libnvidia-ml.so.1; a container"
    " needs the driver capability 'utility' for it (NVIDIA_DRIVER_CAPABILITIES=compute,utility)"
)


class GpuProbe:
    """Reads GPU memory; never raises, never creates a CUDA context.

    Readings block on the driver: some ms, up to seconds where nothing keeps the GPU initialised.
    From an event loop, call them in a thread. Thread-safe.
    """

    def __init__(
        self,
        nvml: NvmlLibrary | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        cache_s: float = 1.0,
        lock_wait_s: float = LOCK_WAIT_S,
        root: Path = Path("/"),
    ) -> None:
        """``nvml`` is the library to use (default: ``pynvml``, imported at the first reading),
        ``environ`` where ``CUDA_VISIBLE_DEVICES`` is looked up (default: the process's), ``root``
        the folder that has ``dev`` and ``proc``.
        """
        self._nvml = nvml
        self._loaded = nvml is not None
        self._open = False
        self._cuda_order: tuple[str, ...] | None = None
        self._environ = os.environ if environ is None else environ
        self._clock = clock
        self._cache_s = cache_s
        self._lock_wait_s = lock_wait_s
        self._root = root
        self._lock = threading.Lock()
        self._last: tuple[float, GpuReading] | None = None

    def read(self, max_age_s: float | None = None) -> GpuReading:
        """The visible GPUs, from a reading at most ``max_age_s`` old (default: one second)."""
        # A driver call that hangs holds the lock: other callers must not hang with it.
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
        """The GPUs this process may use, empty if none; None if the driver gives no list."""
        reading = self.read()
        return None if reading.state is GpuState.UNKNOWN else reading.devices

    def count_as_cuda(self, order: Sequence[str]) -> None:
        """From now on, number the GPUs as CUDA does: ``order`` has the UUIDs, as 32 hexadecimal
        digits, of the GPUs that CUDA shows to this process."""
        with self._lock:
            self._cuda_order = tuple(order)
            self._last = None

    def close(self) -> None:
        """Release the driver until the next reading; blocks no longer than a reading does."""
        if self._lock.acquire(timeout=self._lock_wait_s):
            try:
                self._shut_down()
            finally:
                self._lock.release()

    def _read_now(self) -> GpuReading:
        if not self._loaded:
            self._nvml, self._loaded = load_nvml(), True
        if self._nvml is None:
            return GpuReading(GpuState.NONE, reason="nvidia-ml-py is not installed")
        was_open = self._open
        try:
            reading = self._read_open(self._nvml)
            if reading.state is GpuState.UNKNOWN and was_open:
                # The driver may have been replaced, or the GPU reset, since it was opened.
                self._shut_down()
                reading = self._read_open(self._nvml)
        except Exception as exc:  # noqa: BLE001 - pynvml has errors that are no NVMLError
            reading = GpuReading(GpuState.UNKNOWN, reason=f"the NVIDIA driver reports: {exc}")
        if reading.state is not GpuState.KNOWN or reading.unreadable:
            self._shut_down()
        return reading

    def _read_open(self, nvml: NvmlLibrary) -> GpuReading:
        """Take a reading; opens the library first if need be."""
        try:
            if not self._open:
                self._preload()
                nvml.nvmlInit()
                self._open = True
            visible = self._environ.get("CUDA_VISIBLE_DEVICES")
            return read_devices(nvml, visible, self._cuda_order, self._root)
        except nvml.NVMLError as exc:
            absent = (nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_DRIVER_NOT_LOADED)
            if error_code(exc) not in absent:
                return GpuReading(GpuState.UNKNOWN, reason=f"the NVIDIA driver reports: {exc}")
            if next((self._root / "dev").glob("nvidia[0-9]*"), None) is not None:
                return GpuReading(GpuState.UNKNOWN, reason=_NO_NVML)
            return GpuReading(GpuState.NONE, reason=f"no NVIDIA driver ({exc})")

    def _preload(self) -> None:
        """Windows Subsystem for Linux keeps NVML where not every distribution looks for libraries;
        once loaded, it is found by name."""
        library = self._root / _OF_WSL
        if library.is_file():
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(library))

    def _shut_down(self) -> None:
        if self._open and self._nvml is not None:
            self._open = False
            with contextlib.suppress(Exception):  # the next reading opens it again
                self._nvml.nvmlShutdown()
