from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from docling_serve.engines.local.journal import TaskRow
from docling_serve.engines.local.lines import Line, Lines, QueueLimits
from docling_serve.engines.local.task_record import TaskRecord
from docling_serve.errors import QueueFull
from docling_serve.jobs.spec import TaskFolder


def record(name: str, tenant: str = "a", *, light: bool = False, size: int = 0) -> TaskRecord:
    row = TaskRow(name, tenant, "convert", 1, created=1.0, input_bytes=size, light=light)
    return TaskRecord(row, TaskFolder(Path("nowhere")))


def lines(limits: QueueLimits | None = None, *, light: bool = False) -> Lines:
    return Lines(Line(1, 1), Line(1, 1) if light else None, limits or QueueLimits())


def put(to: Lines, *records: TaskRecord) -> None:
    for one in records:
        to.reserve(one.row.tenant, one.row.input_bytes)
        to.put(one)


def test_light_tasks_have_a_line_of_their_own() -> None:
    waiting = lines(light=True)
    heavy, light = record("heavy"), record("light", light=True)
    put(waiting, heavy, light)

    assert (waiting.position(heavy), waiting.position(light)) == (1, 1)
    assert len(waiting) == 2


def test_without_such_a_line_they_wait_with_the_others() -> None:
    waiting = lines()
    heavy, light = record("heavy"), record("light", light=True)
    put(waiting, heavy, light)

    assert waiting.position(light) == 2


async def test_who_was_handed_over_comes_before_everybody_else() -> None:
    waiting = lines()
    first, second, other = record("1"), record("2"), record("3", "b")
    put(waiting, first, second, other)
    (line,) = waiting.all()
    assert await line.take() is first
    assert [waiting.position(r) for r in (first, other, second)] == [1, 2, 3]
    waiting.started(first)
    assert [waiting.position(r) for r in (first, other, second)] == [None, 1, 2]
    assert line.capacity("c").running == 1
    waiting.left(first)
    assert line.capacity("c").running == 0


async def test_taking_waits_until_there_is_one() -> None:
    waiting = lines()
    (line,) = waiting.all()
    taking = asyncio.ensure_future(line.take())
    await asyncio.sleep(0)
    one = record("1")
    put(waiting, one)
    assert await taking is one


def test_room_is_given_back_once() -> None:
    waiting = lines(QueueLimits(tasks=1))
    one = record("1")
    put(waiting, one)
    waiting.left(one)
    waiting.left(one)
    put(waiting, record("2"))

    with pytest.raises(QueueFull):
        waiting.reserve("a", 0)


def test_one_task_always_fits_however_large_it_is() -> None:
    waiting = lines(QueueLimits(bytes=10))
    waiting.reserve("a", 1000)

    with pytest.raises(QueueFull, match="take all the space"):
        waiting.reserve("b", 1)


def test_a_crowd_of_tenants_stays_within_twice_the_limit() -> None:
    waiting = lines(QueueLimits(tasks=10))
    for number in range(100):
        try:
            waiting.reserve(f"tenant {number}", 0)
        except QueueFull:
            break

    assert number <= 20
