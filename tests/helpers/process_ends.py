"""Wait for processes that are not ours to reap, and look at those that are left."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tests.helpers.server_processes import is_zombie

ROOT = Path(__file__).parents[2]

P = TypeVar("P", bound="subprocess.Popen[Any]")


@contextmanager
def killed_at_end(process: P) -> Iterator[P]:
    """Kill a child at the end of the block, if it still runs, reap it and close its pipes."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def has_ended(pid: int, within_s: float = 60.0) -> bool:
    """Whether process ``pid`` ends in time; one that is already gone has."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        waiter = select.poll()
        waiter.register(descriptor, select.POLLIN)
        return bool(waiter.poll(within_s * 1000))
    finally:
        os.close(descriptor)


def descendants() -> set[int]:
    """Every process this one, or one of its children, started and that still runs."""
    return {
        process.pid
        for process in psutil.Process().children(recursive=True)
        if not is_zombie(process)
    }


def python(*arguments: str) -> Sequence[str]:
    """A command that runs this interpreter."""
    return [sys.executable, *arguments]
