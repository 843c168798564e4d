"""Driver readings from an event loop, which they never block and never outlive."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.readings import GpuReading, GpuState

READ_LIMIT_S = 5.0
"""How long a single reading may take before the driver counts as not answering."""

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]
Clock = Callable[[], float]


async def read_in_background(
    probe: GpuProbe, *, max_age_s: float = 0.0, limit_s: float = READ_LIMIT_S
) -> GpuReading:
    """Read the driver in a thread; ``UNKNOWN`` when it takes longer than ``limit_s``."""
    reading = asyncio.ensure_future(in_background(lambda: probe.read(max_age_s), "gpu-reading"))
    try:
        # Not wait_for: before Python 3.12 it swallows a cancellation that races the answer.
        answered, _ = await asyncio.wait({reading}, timeout=limit_s)
    finally:
        reading.cancel()
    if not answered:
        return GpuReading(GpuState.UNKNOWN, reason="the GPU driver does not answer")
    return reading.result()


async def in_background(call: Callable[[], T], name: str) -> T:
    """Return what ``call``, which must not raise, returns in a thread called ``name``.

    The thread is a daemon of its own, not one of the loop's pool: a call that hangs in the driver
    must neither use up that pool nor keep the server from exiting.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def deliver(value: T) -> None:
        if not answer.done():
            answer.set_result(value)

    def run() -> None:
        value = call()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits for it
            loop.call_soon_threadsafe(deliver, value)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await answer


class Pause:
    """A sleep that an event can cut short."""

    def __init__(self, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep = sleep
        self._cut = asyncio.Event()

    def cut(self) -> None:
        """End the current pause, or the next one."""
        self._cut.set()

    async def wait(self, seconds: float) -> None:
        """Return after ``seconds``, or as soon as the pause is cut."""
        ends = [
            asyncio.ensure_future(self._cut.wait()),
            asyncio.ensure_future(self._sleep(seconds)),
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            self._cut.clear()
