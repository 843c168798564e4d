"""Who is told what of a task, whatever order news and readings come in."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from docling.datamodel.service.tasks import TaskType
from docling_jobkit.datamodel.task_meta import TaskStatus
from redis import ConnectionError as RedisConnectionError

from docling_serve.engines.base import TaskView
from docling_serve.engines.redis.updates import Watches
from docling_serve.errors import Failure
from tests.helpers.loops import turns

PENDING = TaskView("t", TaskType.CONVERT, TaskStatus.PENDING, position=2)
STARTED = replace(PENDING, status=TaskStatus.STARTED, position=None)
SUCCESS = replace(STARTED, status=TaskStatus.SUCCESS)
GONE = Failure("policy", "gone")


class Store:
    """What can be read; ``away`` is raised that many times before."""

    def __init__(self) -> None:
        self.views: dict[str, TaskView | None] = {"t": PENDING}
        self.reads = 0
        self.away = 0
        self.watches = Watches(
            self.look, lambda view: replace(view, status=TaskStatus.FAILURE, failure=GONE)
        )

    async def look(self, task_id: str) -> TaskView | None:
        self.reads += 1
        if self.away:
            self.away -= 1
            raise RedisConnectionError("away")
        return self.views[task_id]

    async def read(self) -> TaskView:
        view = self.views["t"]
        assert view is not None
        return view


async def following(store: Store) -> asyncio.Task[None]:
    return asyncio.create_task(store.watches.keep_told())


async def test_what_happens_right_after_the_first_reading_is_told() -> None:
    store = Store()
    await following(store)
    async with store.watches.watch("t", store.read) as watch:
        store.views["t"] = SUCCESS
        assert [view async for view in watch] == [PENDING, SUCCESS]


async def test_the_same_state_is_told_once() -> None:
    store = Store()
    await following(store)
    async with store.watches.watch("t", store.read) as watch:
        for _ in range(3):
            store.watches.is_stale("t")
            await turns(3)
        store.views["t"] = SUCCESS
        store.watches.is_stale("t")
        assert [view async for view in watch] == [PENDING, SUCCESS]


async def test_every_watcher_is_told() -> None:
    store = Store()
    await following(store)
    async with (
        store.watches.watch("t", store.read) as one,
        store.watches.watch("t", store.read) as two,
    ):
        store.views["t"] = SUCCESS
        store.watches.all_stale()
        assert [view async for view in one][-1] == SUCCESS
        assert [view async for view in two][-1] == SUCCESS


async def test_those_that_wait_are_read_again_when_one_leaves_the_queue() -> None:
    store = Store()
    await following(store)
    async with store.watches.watch("t", store.read) as watch:
        await turns(3)
        store.views["t"] = replace(PENDING, position=1)
        store.watches.moved_up()
        await turns(3)
        assert watch.latest.position == 1
        store.views["t"] = STARTED
        store.watches.is_stale("t")
        await turns(3)
        reads = store.reads
        store.watches.moved_up()
        await turns(3)
        assert store.reads == reads, "a started task has no place to move up to"


async def test_a_task_that_vanished_has_ended() -> None:
    store = Store()
    await following(store)
    async with store.watches.watch("t", store.read) as watch:
        store.views["t"] = None
        store.watches.is_stale("t")
        last = [view async for view in watch][-1]
        assert (last.status, last.failure) == (TaskStatus.FAILURE, GONE)


async def test_a_reading_that_fails_is_made_again() -> None:
    store = Store()
    store.away = 1
    await following(store)
    async with store.watches.watch("t", store.read) as watch:
        store.views["t"] = SUCCESS
        assert [view async for view in watch][-1] == SUCCESS


async def test_news_of_what_nobody_watches_cost_nothing() -> None:
    store = Store()
    await following(store)
    async with store.watches.watch("t", store.read):
        await turns(3)
    reads = store.reads
    store.watches.is_stale("t")
    store.watches.all_stale()
    await turns(3)
    assert store.reads == reads


async def test_what_the_first_reading_raises_is_raised() -> None:
    store = Store()

    async def read() -> TaskView:
        raise KeyError("no such task")

    with pytest.raises(KeyError):
        async with store.watches.watch("t", read):
            pass


async def test_an_unreadable_task_does_not_silence_the_others() -> None:
    store = Store()
    await following(store)
    async with (
        store.watches.watch("broken", store.read),  # looking for it raises KeyError
        store.watches.watch("t", store.read) as watch,
    ):
        await turns(3)
        store.views["t"] = SUCCESS
        store.watches.all_stale()
        assert [view async for view in watch][-1] == SUCCESS
