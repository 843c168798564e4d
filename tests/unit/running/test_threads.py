"""Conversion in threads, with conversions that wait for the test."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from docling_serve.conversion.failures import describe_failure
from docling_serve.errors import TaskFailed
from docling_serve.jobs.run_request import Listeners, RunRequest
from docling_serve.jobs.spec import JobProgress, JobResult, JobSpec, TaskFolder
from docling_serve.running.threads import InProcessConverters
from tests.helpers.loops import PATIENCE_S, turns, until

SPEC = JobSpec(task_id="t", sources=[])
RESULT = JobResult(body="result.body", media_type="text/plain", processing_time=0.1)
FOLDER = TaskFolder(Path("/nowhere"))


class WaitingConversion:
    """Stands where ``Conversion`` does; each method waits until ``go`` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.entered = threading.Event()
        self.runs = 0
        self.cleared = 0
        self.warm = 0
        self.error: Exception | None = None

    def run(self, spec: JobSpec, folder: TaskFolder, on_progress: Any, on_callback: Any) -> Any:
        del spec, folder
        self.runs += 1
        self.entered.set()
        on_progress(JobProgress(phase="build"))
        on_callback({"kind": "set_num_docs"})
        self.go.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        return RESULT

    def clear(self) -> None:
        self.entered.set()
        self.go.wait(PATIENCE_S)
        self.cleared += 1

    def warm_up(self) -> None:
        self.warm += 1
        if self.error is not None:
            raise self.error


class Scripted(InProcessConverters):
    """Converters whose conversions the test made."""

    def __init__(self, count: int, share_models: bool = False) -> None:
        super().__init__({}, count, share_models)
        self.made: list[WaitingConversion] = []
        for place in range(count):
            shared = share_models and self.made
            conversion = self.made[0] if shared else WaitingConversion()
            self.made.append(conversion)
            self._conversions[place] = cast(Any, conversion)

    async def convert(self, told: list[Any] | None = None) -> JobResult:
        told = [] if told is None else told
        listeners = Listeners(lambda: told.append("started"), told.append, told.append)
        return await self.run(RunRequest(SPEC, FOLDER, listeners=listeners))


async def test_a_task_is_converted_in_a_thread_and_told_of_on_the_loop() -> None:
    converters, told = Scripted(1), []  # type: tuple[Scripted, list[Any]]
    running = asyncio.create_task(converters.convert(told))
    await until(lambda: len(told) == 3)
    assert told == ["started", JobProgress(phase="build"), {"kind": "set_num_docs"}]
    converters.made[0].go.set()

    assert await running == RESULT
    converters.kill()


async def test_no_more_tasks_are_converted_at_a_time_than_there_are_places() -> None:
    converters = Scripted(2)
    told: list[list[Any]] = [[], [], []]
    running = [asyncio.create_task(converters.convert(each)) for each in told]
    for conversion in converters.made:
        await asyncio.to_thread(conversion.entered.wait, PATIENCE_S)
    assert told[2] == []
    for conversion in converters.made:
        conversion.go.set()
    await asyncio.gather(*running)

    assert sum(conversion.runs for conversion in converters.made) == 3
    converters.kill()


async def test_a_failure_is_raised_and_the_place_used_again() -> None:
    converters = Scripted(1)
    conversion = converters.made[0]
    conversion.go.set()
    conversion.error = TaskFailed(describe_failure(ValueError("no")))
    with pytest.raises(TaskFailed, match="no"):
        await converters.convert()
    conversion.error = None

    assert await converters.convert() == RESULT
    converters.kill()


async def test_cancelling_returns_at_once_and_the_place_is_free_when_the_thread_is() -> None:
    converters = Scripted(1)
    (conversion,) = converters.made
    first = asyncio.create_task(converters.convert())
    await asyncio.to_thread(conversion.entered.wait, PATIENCE_S)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.create_task(converters.convert())
    await turns(5)
    assert conversion.runs == 1
    conversion.go.set()

    assert await second == RESULT
    converters.kill()


async def test_nobody_hears_of_a_task_after_it_was_cancelled() -> None:
    """Its thread goes on, and its callbacks have been told of the end."""
    converters, told = Scripted(1), list[Any]()
    (conversion,) = converters.made
    running = asyncio.create_task(converters.convert(told))
    await turns(2)
    conversion.entered.wait(PATIENCE_S)  # what it says waits for the loop, behind this
    running.cancel()
    await asyncio.wait({running})
    heard = list(told)
    conversion.go.set()
    await until(lambda: converters._places.qsize() == 1)
    await turns(5)

    assert told == heard
    converters.kill()


async def test_cancelling_who_waits_for_a_place_takes_none() -> None:
    converters = Scripted(1)
    (conversion,) = converters.made
    first = asyncio.create_task(converters.convert())
    await asyncio.to_thread(conversion.entered.wait, PATIENCE_S)
    waiting = asyncio.create_task(converters.convert())
    await turns(3)
    waiting.cancel()
    conversion.go.set()
    await first

    assert await converters.convert() == RESULT
    converters.kill()


async def test_clearing_drops_the_models_of_idle_converters_alone() -> None:
    converters = Scripted(2)
    busy, idle = converters.made
    idle.go.set()
    running = asyncio.create_task(converters.convert())
    await asyncio.to_thread(busy.entered.wait, PATIENCE_S)
    await converters.clear()
    assert (busy.cleared, idle.cleared) == (0, 1)
    busy.go.set()
    await running
    await converters.clear()

    assert (busy.cleared, idle.cleared) == (1, 2)
    converters.kill()


async def test_a_task_waits_while_models_are_dropped() -> None:
    converters = Scripted(1)
    (conversion,) = converters.made
    clearing = asyncio.create_task(converters.clear())
    await asyncio.to_thread(conversion.entered.wait, PATIENCE_S)
    waiting = asyncio.create_task(converters.convert())
    await turns(5)
    assert conversion.runs == 0
    conversion.go.set()
    await clearing

    assert await waiting == RESULT
    converters.kill()


async def test_cancelling_while_models_are_dropped_loses_no_place() -> None:
    converters = Scripted(1)
    (conversion,) = converters.made
    clearing = asyncio.create_task(converters.clear())
    await asyncio.to_thread(conversion.entered.wait, PATIENCE_S)
    clearing.cancel()
    conversion.go.set()
    await asyncio.wait({clearing})
    following = asyncio.create_task(converters.convert())
    ended, _ = await asyncio.wait({following}, timeout=PATIENCE_S)
    converters.kill()

    assert ended, "no task will ever run again"


async def test_warming_up_uses_a_place_and_gives_it_back() -> None:
    converters = Scripted(1)
    (conversion,) = converters.made
    conversion.go.set()
    conversion.error = OSError("no weights")
    with pytest.raises(OSError, match="no weights"):
        await converters.warm_up()
    conversion.error = None
    await converters.warm_up()

    assert conversion.warm == 2
    assert await converters.convert() == RESULT
    converters.kill()


async def test_after_closing_nothing_is_converted() -> None:
    converters = Scripted(1)
    converters.kill()
    with pytest.raises(RuntimeError):
        await converters.convert()
