"""Conversion in threads of this process: what runs tasks when subprocess mode is off."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docling_serve.jobs.run_request import Listeners, RunRequest
from docling_serve.jobs.spec import JobProgress, JobResult
from docling_serve.process.deferred_imports import defer_absent, is_loaded

if TYPE_CHECKING:
    from docling_serve.conversion.conversion import Conversion

_log = logging.getLogger(__name__)


class InProcessConverters:
    """``count`` tasks at a time, each with its own converters unless they share one set.

    A task cannot be stopped once its thread runs: cancelling a call returns at once, and the
    thread's converters are reused when it has finished.
    """

    def __init__(self, converter_config: dict[str, Any], count: int, share_models: bool) -> None:
        self._config = converter_config
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="conversion")
        self._places: asyncio.Queue[int] = asyncio.Queue()
        for place in range(count):
            self._places.put_nowait(place)
        self._share_models = share_models
        self._conversions: dict[int, Conversion] = {}

    async def run(self, request: RunRequest) -> JobResult:
        """Convert in a thread.

        Raises:
            TaskFailed: as :meth:`docling_serve.conversion.conversion.Conversion.run` does.
        """
        place = await self._places.get()
        request.listeners.on_started()
        news = _News(request.listeners)
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, self._convert, place, request, news
        )
        work.add_done_callback(lambda _: self._places.put_nowait(place))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            news.wanted = False
            raise

    def work_in(self, folder: Path) -> None:
        """Nothing to do: threads work in the folders of tasks."""

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

        The CUDA context and the arenas stay: only the exit of a process frees those.
        """
        idle = [self._places.get_nowait() for _ in range(self._places.qsize())]
        conversions = [self._conversions[place] for place in idle if place in self._conversions]
        release = asyncio.ensure_future(asyncio.to_thread(_release, conversions))

        def free(_: object) -> None:
            for place in idle:
                self._places.put_nowait(place)

        release.add_done_callback(free)  # cancelled or not, once the thread has finished with them
        await asyncio.shield(release)

    def drain(self) -> None:
        """Nothing to do: the engine hands over no further tasks."""

    async def close(self) -> None:
        """The same as :meth:`kill`."""
        self.kill()

    def kill(self) -> None:
        """Take no more work; does not wait for a thread that converts."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _convert(self, place: int, request: RunRequest, news: _News) -> JobResult:
        return self._conversion(place).run(
            request.spec, request.folder, news.on_progress, news.on_callback
        )

    def _conversion(self, place: int) -> Conversion:
        defer_absent()
        from docling_serve.conversion.conversion import Conversion  # noqa: PLC0415 - imports torch

        key = 0 if self._share_models else place
        if key not in self._conversions:
            self._conversions[key] = Conversion(self._config)
        return self._conversions[key]


class _News:
    """What a thread reports about its task, passed on to ``listeners`` on the event loop while it
    is ``wanted``: the thread continues after the task was cancelled."""

    def __init__(self, listeners: Listeners) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners = listeners
        self.wanted = True

    def on_progress(self, progress: JobProgress) -> None:
        self._post(self._listeners.on_progress, progress)

    def on_callback(self, payload: dict[str, Any]) -> None:
        self._post(self._listeners.on_callback, payload)

    def _post(self, listener: Callable[[Any], None], value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: there is no listener any more
            self._loop.call_soon_threadsafe(self._tell, listener, value)

    def _tell(self, listener: Callable[[Any], None], value: Any) -> None:
        if self.wanted:
            listener(value)


def _release(conversions: list[Conversion]) -> None:
    for conversion in conversions:
        conversion.clear()
    gc.collect()
    if not is_loaded("torch"):
        return
    torch = sys.modules["torch"]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
