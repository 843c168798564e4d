"""Wait for processes that are not ours to reap, and look at those that are left."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def has_ended(pid: int, within_s: float = 30.0) -> bool:
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
        if process.status() != psutil.STATUS_ZOMBIE
    }


def python(*arguments: str) -> Sequence[str]:
    """A command that runs this interpreter."""
    return [sys.executable, *arguments]
