"""Run a coroutine to its end on the event loop a test asks for."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar

import uvloop

_T = TypeVar("_T")

LoopKind = Literal["asyncio", "uvloop"]
LOOP_KINDS: tuple[LoopKind, ...] = ("asyncio", "uvloop")

# Ends a hang; it measures nothing, so it is far beyond what the busiest machine needs.
PATIENCE_S = 30.0


def run_on(kind: LoopKind, work: Coroutine[Any, Any, _T], within_s: float = 2 * PATIENCE_S) -> _T:
    """The result of ``work``. The bound is there to fail a hang.

    What goes wrong where nobody looks (a task whose exception is never asked for, a callback that
    raises) fails the test too.
    """
    unseen: list[dict[str, Any]] = []
    loop = uvloop.new_event_loop() if kind == "uvloop" else asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: unseen.append(context))
    try:
        result = loop.run_until_complete(asyncio.wait_for(work, within_s))
        _cancel_the_rest(loop)
        gc.collect(1)  # a lost exception is reported when its task goes
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        _cancel_the_rest(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    assert not unseen, unseen
    return result


def run(work: Coroutine[Any, Any, _T], within_s: float = 2 * PATIENCE_S) -> _T:
    """:func:`run_on` plain asyncio, for code that opens no socket."""
    return run_on("asyncio", work, within_s)


def _cancel_the_rest(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=PATIENCE_S))


async def until(condition: Callable[[], object]) -> None:
    """Let everything else on the loop run until ``condition`` holds."""
    while not condition():
        await turns(1)


async def turns(count: int) -> None:
    """Let everything else on the loop run ``count`` times."""
    for _ in range(count):
        await asyncio.sleep(0)
