"""Read the GPUs repeatedly, but only while a worker that may use them runs."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import replace

from docling_serve.vram.background import READ_LIMIT_S, Clock, Pause, Sleep, read_in_background
from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.readings import GpuReading

_log = logging.getLogger(__name__)

SAMPLE_S = 0.5

LET_GO_S = 60.0
"""How long the driver stays open after the last reading: longer than the pauses between requests,
where opening it again could take seconds, but not so long that it keeps an unused GPU awake."""

Listener = Callable[[GpuReading, float], None]
"""Gets a reading, and when it was started."""


class GpuSampler:
    """One loop of readings for all listeners. Event loop only; the driver is read in threads.

    Readings are taken every ``sample_s`` seconds while there are followers, and none otherwise.
    """

    def __init__(
        self,
        probe: GpuProbe,
        *,
        sample_s: float = SAMPLE_S,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = time.monotonic,
        read_limit_s: float = READ_LIMIT_S,
    ) -> None:
        self._probe = probe
        self._sample_s = sample_s
        self._read_limit_s = read_limit_s
        self._sleep = sleep
        self._clock = clock
        self._listeners: list[Listener] = []
        self._followers: set[Hashable] = set()
        self._pause: Pause | None = None
        self._loop: asyncio.Task[None] | None = None
        self._look = False
        self._foreign = False
        self._letting_go: asyncio.TimerHandle | None = None

    def pids_are_foreign(self) -> None:
        """The driver lists PIDs of another namespace, as in most containers."""
        if not self._foreign:
            _log.info(
                "the GPU driver uses other process ids than this machine: its figures of processes"
                " are not used"
            )
        self._foreign = True

    def with_our_processes(self, reading: GpuReading) -> GpuReading:
        """``reading`` without its process lists if their PIDs are not of our namespace."""
        return replace(reading, processes={}) if self._foreign else reading

    @property
    def running(self) -> bool:
        """Whether readings are being taken."""
        return self._loop is not None and not self._loop.done()

    def subscribe(self, listener: Listener) -> None:
        """Have ``listener`` called on the event loop with every reading."""
        self._listeners.append(listener)

    def follow(self, who: Hashable) -> None:
        """Take a reading now, and more until :meth:`unfollow` is called with the same ``who``."""
        self._followers.add(who)
        self.look_now()

    def unfollow(self, who: Hashable) -> None:
        """``who`` needs no more readings."""
        self._followers.discard(who)
        if not self._followers and self._pause is not None:
            self._pause.cut()

    def look_now(self) -> None:
        """Take one reading soon, followed or not."""
        self._look = True
        if self._pause is not None:
            self._pause.cut()
        if not self.running:
            self._loop = asyncio.get_running_loop().create_task(self._read_on())

    async def look(self, limit_s: float) -> None:
        """Take one reading, and return once its listeners have it; ``limit_s`` bounds the wait."""
        began_at = self._clock()
        reading = await read_in_background(self._probe, limit_s=limit_s)
        for listener in self._listeners:
            listener(reading, began_at)

    def let_go_later(self) -> None:
        """No reading is needed now: release the driver unless another one follows soon."""
        self._keep()
        loop = asyncio.get_running_loop()
        self._letting_go = loop.call_later(LET_GO_S, self._let_go)

    def close(self) -> None:
        """Stop reading."""
        self._keep()
        self._followers.clear()
        if self._loop is not None:
            self._loop.cancel()

    def _keep(self) -> None:
        if self._letting_go is not None:
            self._letting_go.cancel()

    def _let_go(self) -> None:
        if self.running:
            return  # it will be called again
        # As with readings, a thread of its own: the driver may not answer.
        threading.Thread(target=self._probe.close, name="gpu-close", daemon=True).start()

    async def _read_on(self) -> None:
        self._keep()
        self._pause = Pause(self._sleep)
        while self._look or self._followers:
            self._look = False
            began_at = self._clock()
            reading = await read_in_background(self._probe, limit_s=self._read_limit_s)
            for listener in self._listeners:
                listener(reading, began_at)
            if self._followers and not self._look:
                await self._pause.wait(self._sample_s)
        self.let_go_later()
