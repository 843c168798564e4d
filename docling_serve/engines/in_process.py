"""Conversion in threads of this process: what runs tasks when subprocess mode is off."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from docling_serve.jobs import JobProgress, JobResult, JobSpec, TaskFolder

if TYPE_CHECKING:
    from docling_serve.conversion.conversion import Conversion

_log = logging.getLogger(__name__)


class InProcessConverters:
    """``count`` tasks at a time, each with its own converters unless they share one set.

    A task cannot be stopped once its thread runs: cancelling a call returns at once, and the
    thread's converters are used again when it has come to its end.
    """

    def __init__(self, converter_config: dict[str, Any], count: int, share_models: bool) -> None:
        self._config = converter_config
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="conversion")
        self._places: asyncio.Queue[int] = asyncio.Queue()
        for place in range(count):
            self._places.put_nowait(place)
        self._share_models = share_models
        self._conversions: dict[int, Conversion] = {}

    async def run(
        self,
        spec: JobSpec,
        folder: TaskFolder,
        on_started: Callable[[], None],
        on_progress: Callable[[JobProgress], None],
        on_callback: Callable[[dict[str, Any]], None],
    ) -> JobResult:
        """Convert in a thread; the callbacks run on the event loop.

        Raises:
            TaskFailed: as :meth:`docling_serve.conversion.conversion.Conversion.run` does.
        """
        loop = asyncio.get_running_loop()
        place = await self._places.get()
        on_started()
        left = asyncio.Event()

        def unless_left(listener: Callable[[Any], None]) -> Callable[[Any], None]:
            """The thread goes on when the task has ended, of which nobody is to hear."""
            return lambda value: None if left.is_set() else listener(value)

        def convert() -> JobResult:
            return self._conversion(place).run(
                spec,
                folder,
                on_progress=lambda progress: _post(loop, unless_left(on_progress), progress),
                on_callback=lambda payload: _post(loop, unless_left(on_callback), payload),
            )

        work = loop.run_in_executor(self._threads, convert)
        work.add_done_callback(lambda _: self._places.put_nowait(place))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            left.set()
            raise

    async def warm_up(self) -> None:
        """Load the models of a conversion with default options."""
        place = await self._places.get()
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: self._conversion(place).warm_up()
            )
        finally:
            self._places.put_nowait(place)

    async def clear(self) -> None:
        """Drop loaded models of converters that are idle, and what the allocators cache.

        The CUDA context and the arenas stay: only the end of a process gives those back.
        """
        idle = [self._places.get_nowait() for _ in range(self._places.qsize())]
        conversions = [self._conversions[place] for place in idle if place in self._conversions]
        release = asyncio.ensure_future(asyncio.to_thread(_release, conversions))

        def free(_: object) -> None:
            for place in idle:
                self._places.put_nowait(place)

        release.add_done_callback(free)  # cancelled or not, when the thread is done with them
        await asyncio.shield(release)

    def close(self) -> None:
        """Take no more work; a thread that converts is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _conversion(self, place: int) -> Conversion:
        from docling_serve.conversion.conversion import Conversion  # noqa: PLC0415 - imports torch

        key = 0 if self._share_models else place
        if key not in self._conversions:
            self._conversions[key] = Conversion(self._config)
        return self._conversions[key]


def _release(conversions: list[Conversion]) -> None:
    for conversion in conversions:
        conversion.clear()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _post(loop: asyncio.AbstractEventLoop, function: Callable[[Any], None], value: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
        loop.call_soon_threadsafe(function, value)
