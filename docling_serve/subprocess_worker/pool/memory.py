"""How much host memory a worker takes."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_READ_BYTES = 4096
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def tree_rss(pid: int) -> int:
    """Resident bytes of process ``pid`` and its descendants, 0 once it is gone.

    Costs some 5 us per thread of the process tree and nothing for other processes, so it may be
    called on the event loop. psutil reads every process of the machine for each worker: 42 ms for
    20 workers among 140 processes, against 4 ms. Pages that a forked worker shares with its
    template count in full.
    """
    total = 0
    unread = [pid]
    while unread:
        member = unread.pop()
        total += process_rss(member)
        unread.extend(_children(member))
    return total


def process_rss(pid: int) -> int:
    """Resident bytes of process ``pid`` alone, 0 once it is gone."""
    # A process that has just exited has no figures: no file, or an empty one.
    with contextlib.suppress(OSError, IndexError):
        return int(_read(f"/proc/{pid}/statm").split()[1]) * _PAGE_BYTES
    return 0


def _children(pid: int) -> list[int]:
    if not _kernel_lists_children():
        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children()]
        return []
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  # a Path per thread is slow
            with contextlib.suppress(OSError):
                found.extend(map(int, _read(f"/proc/{pid}/task/{thread}/children").split()))
    return found


def _read(path: str) -> bytes:
    """A kernel file's contents. Four system calls; ``Path.read_bytes`` makes nine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        blocks: list[bytes] = []
        while block := os.read(descriptor, _READ_BYTES):
            blocks.append(block)
        return b"".join(blocks)
    finally:
        os.close(descriptor)


@cache
def _kernel_lists_children() -> bool:
    """If not (a kernel without CONFIG_PROC_CHILDREN), every process must be read instead."""
    return Path(f"/proc/self/task/{os.getpid()}/children").exists()


@dataclass
class MemoryRecord:
    """Resident memory of one worker over its life, in bytes."""

    current: int = 0
    peak: int = 0
    at_birth: int = 0
    after_first_job: int = 0

    def note(self, rss: int) -> None:
        """Record a reading."""
        self.current = rss
        self.peak = max(self.peak, rss)

    def note_birth(self, rss: int) -> None:
        """Record a reading before the first job."""
        self.note(rss)
        self.at_birth = rss

    def note_job_end(self, rss: int) -> None:
        """Record a reading at the end of a job."""
        self.note(rss)
        if self.after_first_job == 0:
            self.after_first_job = rss

    @property
    def growth_at_rest(self) -> int:
        """How much more than before its first job a worker without models holds."""
        return max(0, self.current - self.at_birth)

    @property
    def growth(self) -> int:
        """How much more the worker holds than after its first job, which loads models for all."""
        return max(0, self.current - self.after_first_job) if self.after_first_job else 0
