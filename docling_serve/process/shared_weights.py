"""Bring model weights into the page cache, where every worker's next load finds them.

Page cache is memory that the kernel can reclaim, and all processes share it. So nothing is held
here: each file is mapped, touched and unmapped. ``posix_fadvise(WILLNEED)`` is no substitute: of a
1 GiB file it brings in one read-ahead window, 1 % of the file.
"""

from __future__ import annotations

import logging
import mmap
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from docling_serve.process.control_group import read_number, read_table

_log = logging.getLogger(__name__)

#: Endings of files that hold weights, in the formats of docling's models.
WEIGHT_SUFFIXES = frozenset(
    (
        *(".safetensors", ".bin", ".pt", ".pth", ".ckpt"),
        *(".onnx", ".onnx_data", ".data", ".gguf", ".npz", ".h5", ".pdiparams"),
    )
)
_KEEP_FREE = 1 << 30
# While a page is read from disk, no other thread of this process runs Python: so short pieces.
_STEP = 1 << 20
#: Mapped at a time: mapped pages count as resident memory of this process.
_WINDOW = 64 << 20


@dataclass(frozen=True)
class SkippedWeights:
    """A file that was not brought in, by its path under the artifacts, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class PreloadReport:
    """What was brought in: number of ``files``, their ``bytes``, the ``seconds`` it took."""

    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    skipped: tuple[SkippedWeights, ...] = ()


def available_memory() -> int:
    """Bytes usable without swapping, and within the limit of this process's control group if one is
    set."""
    available: int = psutil.virtual_memory().available
    limit = read_number("memory.max")
    used = read_number("memory.current")
    if limit is None or used is None:
        return available
    cache = read_table("memory.stat").get("inactive_file", 0)  # the kernel can reclaim it
    return min(available, max(limit - used + cache, 0))


def preload_models_mmap(
    artifacts_path: Path | str,
    *,
    keep_free: int = _KEEP_FREE,
    available: Callable[[], int] = available_memory,
    stopped: Callable[[], bool] = lambda: False,
) -> PreloadReport:
    """Map and touch every weight file under ``artifacts_path``, so that the page cache has it.

    Blocks for as long as the disk takes (call it in a thread, or in a separate process).
    ``keep_free`` bytes of the ``available`` memory are left alone: files that do not fit are
    skipped and listed in the report, as are files that cannot be read; neither raises. If another
    process truncates a file while it is touched, this process dies (SIGBUS). Returns early when
    ``stopped`` says so.
    """
    started = time.monotonic()
    root = Path(artifacts_path).expanduser()
    budget = max(available() - keep_free, 0)
    files = total = 0
    skipped: list[SkippedWeights] = []
    if not root.is_dir():
        skipped.append(SkippedWeights(".", "not a folder"))
    for path in _weight_files(root):
        if stopped():
            break
        name = str(path.relative_to(root))
        try:
            size = path.stat().st_size
            if size > budget - total:
                reason = f"{_mib(size)} do not fit: {_mib(budget - total)} of memory are left"
                skipped.append(SkippedWeights(name, reason))
                continue
            _touch(path, stopped)
        except (OSError, ValueError) as exc:  # ValueError: truncated meanwhile
            skipped.append(SkippedWeights(name, str(getattr(exc, "strerror", None) or exc)))
            continue
        files += 1
        total += size
    report = PreloadReport(files, total, time.monotonic() - started, tuple(skipped))
    _log.info(
        "%d weight files (%s) are in the page cache after %.2f s; %d skipped",
        report.files,
        _mib(report.bytes),
        report.seconds,
        len(report.skipped),
    )
    for file in report.skipped:
        _log.warning("weights not preloaded: %s: %s", file.path, file.reason)
    return report


def _weight_files(root: Path) -> Iterator[Path]:
    """In order of their names; each file once, however many links lead to it."""
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        here = Path(folder).stat()
        if (here.st_dev, here.st_ino) in seen:  # a link that leads back
            subfolders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        subfolders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix.lower() not in WEIGHT_SUFFIXES or not path.is_file():
                continue
            found = path.stat()
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                yield path


def _touch(path: Path, stopped: Callable[[], bool]) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if size == 0:  # an empty file cannot be mapped
            return
        for offset in range(0, size, _WINDOW):
            if stopped():
                return
            _touch_window(descriptor, offset, min(_WINDOW, size - offset))
    finally:
        os.close(descriptor)


def _touch_window(descriptor: int, offset: int, size: int) -> None:
    with mmap.mmap(
        descriptor, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=offset
    ) as mapped:
        if hasattr(mmap, "MADV_WILLNEED"):
            mapped.madvise(mmap.MADV_WILLNEED)
        for start in range(0, size, _STEP):
            _ = mapped[start : start + _STEP : mmap.PAGESIZE]


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
