"""What a reader of a watch gets, fast or slow."""

from __future__ import annotations

import asyncio

from docling.datamodel.service.tasks import TaskType
from docling_jobkit.datamodel.task_meta import TaskStatus

from docling_serve.engines.base import TaskView, Watch


def state(status: TaskStatus, position: int | None = None) -> TaskView:
    return TaskView("t", TaskType.CONVERT, status, position)


STARTED, SUCCESS = state(TaskStatus.STARTED), state(TaskStatus.SUCCESS)


async def read(watch: Watch) -> list[TaskView]:
    return [view async for view in watch]


async def test_reader_gets_every_state_and_then_the_end() -> None:
    watch = Watch(state(TaskStatus.PENDING, 1))
    reader = asyncio.ensure_future(read(watch))
    await asyncio.sleep(0)
    watch.tell(STARTED)
    await asyncio.sleep(0)
    watch.tell(SUCCESS)
    watch.tell(SUCCESS)
    told = await reader
    assert [view.status for view in told] == ["pending", "started", "success"]


async def test_slow_reader_loses_the_oldest_states_only() -> None:
    watch = Watch(state(TaskStatus.PENDING, 1001))
    for position in range(1000, 0, -1):
        watch.tell(state(TaskStatus.PENDING, position))
    watch.tell(SUCCESS)
    told = await read(watch)
    assert len(told) < 100
    assert told[-1] is SUCCESS
    assert [view.position for view in told[:-1]] == list(range(len(told) - 1, 0, -1))


async def test_repeat_gives_the_newest_state_again() -> None:
    watch = Watch(STARTED)
    first = await anext(watch)
    watch.repeat()

    assert [first, await anext(watch)] == [STARTED, STARTED]
