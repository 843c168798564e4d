"""The ladder that ends a worker: ask, SIGTERM, SIGKILL, and only then give up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class Rung(str, Enum):
    """How far up the ladder it had to go."""

    ASKED = "asked"
    TERMINATED = "terminated"
    KILLED = "killed"
    SURVIVED = "survived"


@dataclass(frozen=True)
class Ladder:
    """Seconds to wait on each rung; 0 skips asking."""

    ask_s: float
    term_s: float
    kill_s: float


def kill_group(pid: int) -> None:
    """Kill what remains of the process group that worker ``pid`` leads.

    Safe after the worker was reaped: a group's number is not reused while it has members.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a worker that has not been reaped, and all its children."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)  # it may not have created its own group yet


async def stop(pid: int, exited: asyncio.Event, ladder: Ladder, ask: Callable[[], None]) -> Rung:
    """Climb until ``exited`` is set; returns the rung that worked."""
    if ladder.ask_s > 0:
        ask()
        if await _within(exited, ladder.ask_s):
            return Rung.ASKED
    signal_group(pid, signal.SIGTERM)
    if await _within(exited, ladder.term_s):
        return Rung.TERMINATED
    signal_group(pid, signal.SIGKILL)
    if await _within(exited, ladder.kill_s):
        return Rung.KILLED
    return Rung.SURVIVED


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True
