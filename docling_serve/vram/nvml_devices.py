"""One reading of all visible GPUs through an open NVML library."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from docling_serve.vram.nvml_library import Handle, NvmlLibrary, NvmlProcess
from docling_serve.vram.readings import GpuDevice, GpuProcess, GpuReading, GpuState
from docling_serve.vram.visibility import select_visible

_NO_UUID_DIGIT = re.compile(r"[^0-9a-f]")


@dataclass(frozen=True)
class _Candidate:
    """A device before its memory is read; one without ``uuid`` could not even be opened."""

    index: int
    handle: Handle = None
    uuid: str | None = None
    error: str = ""


def read_devices(
    nvml: NvmlLibrary, visible: str | None, cuda_order: Sequence[str] | None, root: Path
) -> GpuReading:
    """Read the GPUs that this process may use.

    ``visible`` is the value of ``CUDA_VISIBLE_DEVICES``; ``cuda_order`` has the UUIDs, as 32
    hexadecimal digits, of the GPUs that CUDA shows under it, None if that is not known.
    ``root`` is the folder that has ``proc``.

    Raises:
        nvml.NVMLError: the GPUs cannot be listed.
    """
    candidates = _list_candidates(nvml)
    chosen: Sequence[int | str] | None = _in_cuda_order(candidates, cuda_order)
    if chosen is None:
        chosen = select_visible(visible, [candidate.uuid for candidate in candidates])
    if not chosen:
        hidden = f"CUDA_VISIBLE_DEVICES={visible} hides all GPUs" if candidates else "no GPU"
        return GpuReading(GpuState.NONE, reason=hidden)
    devices: list[GpuDevice] = []
    processes: dict[str, tuple[GpuProcess, ...]] = {}
    unreadable: list[str] = []
    visible_ones = [candidates[c] if isinstance(c, int) else _open(nvml, c) for c in chosen]
    for candidate in visible_ones:
        device = _read_device(nvml, candidate, root)
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
    listed_gpus = len(candidates)
    return GpuReading(
        state, tuple(devices), processes, tuple(unreadable), reason, order, listed_gpus
    )


def _in_cuda_order(
    candidates: Sequence[_Candidate], cuda_order: Sequence[str] | None
) -> list[int] | None:
    """Positions in ``candidates``; None if CUDA was not asked, or names one that NVML lacks."""
    if cuda_order is None:
        return None
    places = {_digits(each.uuid): each.index for each in candidates if each.uuid is not None}
    if not all(digits in places for digits in cuda_order):
        return None
    return [places[digits] for digits in cuda_order]


def _digits(uuid: str) -> str:
    """The digits of a UUID such as ``GPU-…`` or ``MIG-…``, which CUDA gives without a prefix."""
    return _NO_UUID_DIGIT.sub("", uuid.lower().partition("-")[2])


def _list_candidates(nvml: NvmlLibrary) -> list[_Candidate]:
    """All devices CUDA could use, in NVML's order; MIG devices in place of their GPU."""
    found: list[_Candidate] = []
    for gpu_index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(gpu_index)
            # Inside a container the GPU behind a MIG device may be unreadable
            # (NVIDIA/nvidia-container-toolkit 842), so only its MIG devices are read.
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
            if error_code(exc) != nvml.NVML_ERROR_NOT_FOUND:  # NOT_FOUND is an empty slot
                raise
    return handles


def _open(nvml: NvmlLibrary, uuid: str) -> _Candidate:
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        return _Candidate(-1, handle, nvml.nvmlDeviceGetUUID(handle))
    except nvml.NVMLError as exc:
        return _Candidate(-1, error=f"{uuid}: {exc}")


def _read_device(nvml: NvmlLibrary, candidate: _Candidate, root: Path) -> GpuDevice | str:
    """The device with its memory, or the reason why there are no figures."""
    uuid = candidate.uuid
    if uuid is None:
        return candidate.error
    try:
        name = nvml.nvmlDeviceGetName(candidate.handle)
        total, used, free, of_host = _memory(nvml, candidate.handle, root)
    except (nvml.NVMLError, OSError) as exc:
        return f"{uuid}: {exc}"
    return GpuDevice(candidate.index, uuid, name, total, used, free, of_host)


def _memory(nvml: NvmlLibrary, handle: Handle, root: Path) -> tuple[int, int, int, bool]:
    """Total, used and free bytes, and whether they are the host's.

    Version 2 leaves the driver's own memory out of ``used``: an idle A100 has 8 MB in use, and 912
    MB by version 1 (Cldfire/nvml-wrapper 57). Drivers before 510 have version 1 only. A GPU without
    memory of its own supports neither: GB10 answers NOT_SUPPORTED to both (XuehaiPan/nvitop 208,
    driver 580.173).
    """
    older = (
        nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        nvml.NVML_ERROR_NOT_SUPPORTED,
    )
    try:
        try:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2)
        except nvml.NVMLError as exc:
            if error_code(exc) not in older:
                raise
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError as exc:
        if error_code(exc) != nvml.NVML_ERROR_NOT_SUPPORTED:
            raise
        total, available = _host_memory(root)
        return total, total - available, available, True
    return memory.total, memory.used, memory.free, False


def _host_memory(root: Path) -> tuple[int, int]:
    """Total and available bytes of this machine (man proc_meminfo)."""
    lines = (root / "proc" / "meminfo").read_text().splitlines()
    fields = {line.partition(":")[0]: line.partition(":")[2].split() for line in lines}
    return int(fields["MemTotal"][0]) * 1024, int(fields["MemAvailable"][0]) * 1024


def _read_processes(nvml: NvmlLibrary, handle: Handle) -> tuple[GpuProcess, ...] | None:
    """Processes with a CUDA context, including clients of a Multi-Process Service; None if the
    driver gives no list."""
    newest = _first_answer(
        (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetComputeRunningProcesses_v2),
        handle,
    )
    if newest is None:
        return None
    of_service = _first_answer((nvml.nvmlDeviceGetMPSComputeRunningProcesses,), handle)
    found = {process.pid: process.usedGpuMemory for process in newest}
    for process in of_service or ():
        found.setdefault(process.pid, process.usedGpuMemory)
    return tuple(GpuProcess(pid, used) for pid, used in found.items())


def _first_answer(
    versions: Sequence[Callable[[Handle], Sequence[NvmlProcess]]], handle: Handle
) -> Sequence[NvmlProcess] | None:
    """The answer of the newest version that the driver has. For a version that the driver lacks,
    pynvml raises an error that is not an ``NVMLError``: drivers before 510 have version 2 only."""
    for version in versions:
        try:
            return version(handle)
        except Exception:  # noqa: BLE001, S112 - the memory is known without it
            continue
    return None


def error_code(exc: Exception) -> int | None:
    """The number of an NVMLError."""
    value = getattr(exc, "value", None)
    return value if isinstance(value, int) else None
