"""Write into a task's folder in a thread, and remove the folder only after that."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def finish_in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call ``function`` in a thread, as ``asyncio.to_thread`` does, but do not abandon it.

    A cancellation is raised when the call has finished. With ``asyncio.to_thread`` the thread might
    write a document after its folder was removed.
    """
    call = partial(contextvars.copy_context().run, partial(function, *args, **kwargs))
    running = asyncio.get_running_loop().run_in_executor(None, call)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        running.exception()  # retrieved, so that asyncio does not report it
        raise cancelled
    return running.result()
