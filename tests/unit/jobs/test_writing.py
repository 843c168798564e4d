"""Calls that a cancellation does not leave behind in their thread."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from docling_serve.jobs.writing import finish_in_thread
from tests.helpers.loops import ON_BOTH_LOOPS, PATIENCE_S, turns, until

pytestmark = ON_BOTH_LOOPS

_who: contextvars.ContextVar[str] = contextvars.ContextVar("who")


class Writer:
    """Writes when it is let."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.written = False
        self._error = error

    def write(self) -> str:
        self.begun.set()
        self.go.wait(PATIENCE_S)
        self.written = True
        if self._error is not None:
            raise self._error
        return "written"


async def test_it_is_a_call_in_a_thread() -> None:
    def call(word: str, *, other: str) -> tuple[bool, str]:
        return threading.current_thread() is threading.main_thread(), word + other + _who.get()

    _who.set("me")
    assert await finish_in_thread(call, "for ", other="and ") == (False, "for and me")
    with pytest.raises(ZeroDivisionError):
        await finish_in_thread(lambda: 1 / 0)


@pytest.mark.parametrize("error", [None, OSError("the disk is full")])
async def test_a_cancellation_waits_for_its_end(error: Exception | None) -> None:
    writer = Writer(error)
    writing = asyncio.ensure_future(finish_in_thread(writer.write))
    await until(writer.begun.is_set)
    for _ in range(2):
        writing.cancel()
        await turns(20)
        assert not writing.done()

    writer.go.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert writer.written
