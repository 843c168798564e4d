"""The event loops that tests run on, and waits that let everything else on a loop run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

# Ends a hang; it measures nothing, so it is far beyond what the busiest machine needs.
PATIENCE_S = 60.0

NewLoop = Callable[[], asyncio.AbstractEventLoop]

#: Loops that were made for the test that runs.
made: list[asyncio.AbstractEventLoop] = []
#: What went wrong on a loop without reaching the test: a task whose exception is never asked for,
#: a callback that raises.
unseen: list[dict[str, Any]] = []


def _watched(new_loop: NewLoop) -> NewLoop:
    def make() -> asyncio.AbstractEventLoop:
        loop = new_loop()
        made.append(loop)
        loop.set_exception_handler(lambda _, context: unseen.append(context))
        return loop

    return make


LOOPS: dict[str, NewLoop] = {
    "asyncio": _watched(asyncio.new_event_loop),
    "uvloop": _watched(uvloop.new_event_loop),
}
ON_BOTH_LOOPS = pytest.mark.asyncio(loop_factories=[*LOOPS])
ON_UVLOOP = pytest.mark.asyncio(loop_factories=["uvloop"])


async def until(condition: Callable[[], object]) -> None:
    """Let everything else on the loop run until ``condition`` holds."""
    while not condition():
        await turns(1)


async def turns(count: int) -> None:
    """Let everything else on the loop run ``count`` times."""
    for _ in range(count):
        await asyncio.sleep(0)
