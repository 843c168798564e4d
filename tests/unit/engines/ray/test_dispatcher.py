"""The dispatcher on a real Redis, with coroutines where Ray would have actors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from docling.datamodel.service.callbacks import CallbackSpec
from docling_jobkit.datamodel.task import validate_task
from docling_jobkit.datamodel.task_meta import TaskStatus

from docling_serve.engines.ray.dispatcher import Dispatcher, HostLost, Rules, Scaling, _Host
from docling_serve.engines.ray.queues import ACTOR_LOST, Ended, TenantQueues
from docling_serve.internals import jobkit_ray
from tests.helpers.loops import PATIENCE_S
from tests.helpers.ray_engines import gateway, ray_engine, ray_settings, require_ray
from tests.helpers.rq_engines import TENANT, markdown
from tests.unit.engines.ray.stand_in_hosts import StandInHosts

require_ray()

from docling_serve.engines.ray.engine import RayEngine  # noqa: E402

PREFIX = "docling-serve-tasks-this-"
OURS = f"{PREFIX}1"


@dataclass
class Bench:
    """A dispatcher, its gateway, and what came of both."""

    engine: RayEngine
    dispatcher: Dispatcher
    hosts: StandInHosts
    now: float = 0.0
    ended: list[Ended] = field(default_factory=list)

    async def submit(self, **fields: Any) -> str:
        return (await self.engine.submit(markdown(**fields))).task_id

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wake the dispatcher until the condition holds."""

        async def wait() -> None:
            while not condition():
                self.dispatcher.wake()
                await asyncio.sleep(0.005)

        await asyncio.wait_for(wait(), PATIENCE_S)

    async def handed(self, *tasks: str) -> None:
        """Wait until an actor has each of these tasks."""
        await self.until(lambda: set(tasks) <= set(self.hosts.handed))

    async def status(self, task_id: str) -> TaskStatus:
        return (await self.engine.view(task_id)).status

    async def rounds(self, count: int = 3) -> None:
        """Let the dispatcher look some times more, to see that it does nothing."""
        for _ in range(count):
            before = self.looks
            await self.until(lambda before=before: self.looks > before)  # type: ignore[misc]

    looks: int = 0


@asynccontextmanager
async def bench(
    url: str,
    hosts: StandInHosts | None = None,
    *,
    least: int = 1,
    most: int = 1,
    at_once: int = 1,
    per_host: float | None = None,
    up_after_s: float = 0.0,
    down_after_s: float = 600.0,
    retries: int = 1,
    **settings: Any,
) -> AsyncIterator[Bench]:
    hosts = hosts or StandInHosts()
    scaling = Scaling(least, most, at_once, per_host or at_once, up_after_s, down_after_s)
    rules = Rules(PREFIX, scaling, retries, retry_delay_s=0.0, look_every_s=30.0)
    async with gateway(url, **settings) as engine:
        at: Bench

        class Counted(TenantQueues):
            async def waiting(self) -> int:
                at.looks += 1
                return await super().waiting()

        at = Bench(
            engine,
            Dispatcher(
                Counted(engine.state),
                hosts,
                rules,
                lambda ended: at.ended.append(ended),  # noqa: PLW0108 - made before it
                clock=lambda: at.now,
            ),
            hosts,
        )
        running = asyncio.create_task(at.dispatcher.run())
        yield at
        running.cancel()
        await asyncio.wait({running})


async def test_a_task_is_given_to_an_actor(url: str) -> None:
    async with bench(url) as at:
        task = await at.submit()
        await at.handed(task)
        assert at.hosts.started == [at.hosts.has(task)]
        assert await at.engine.queue_size() == 0
        snapshot = (await at.engine.state.get_tenant_snapshots([TENANT]))[0]
        assert (snapshot.queue_size, snapshot.active_count) == (0, 1)


async def test_an_actor_has_as_many_tasks_as_it_may(url: str) -> None:
    async with bench(url, at_once=2) as at:
        tasks = [await at.submit() for _ in range(3)]
        await at.handed(*tasks[:2])
        await at.rounds()
        assert at.hosts.handed == tasks[:2]
        at.hosts.end(tasks[0])
        await at.handed(tasks[2])


async def test_actors_share_tasks_until_each_has_its_target(url: str) -> None:
    async with bench(url, least=2, most=2, at_once=3, per_host=1.0) as at:
        await at.until(lambda: len(at.hosts.alive) == 2)
        await at.rounds()
        tasks = [await at.submit() for _ in range(4)]
        await at.handed(*tasks)
        assert [len(each) for each in at.hosts.tasks.values()] == [2, 2]


def test_what_was_due_is_not_due_again(url: str) -> None:
    """An idle actor that the load still needs."""
    scaling = Scaling(least=0, most=2, at_once=1, per_host=1.0, up_after_s=0.0, down_after_s=600.0)
    rules = Rules(PREFIX, scaling, 1, retry_delay_s=0.0, look_every_s=30.0)
    queues = TenantQueues(ray_engine(url).state)
    dispatcher = Dispatcher(queues, StandInHosts(), rules, clock=lambda: 1000.0)
    dispatcher._reconciled = 995.0
    dispatcher._hosts[OURS] = _Host(OURS, ready=True, idle_since=100.0)
    assert dispatcher._next_change_s(1000.0) == 25.0
    dispatcher._hosts[OURS].idle_since = 401.0
    assert dispatcher._next_change_s(1000.0) == 1.0


async def test_a_task_of_more_documents_than_the_limit_runs_alone(url: str) -> None:
    async with bench(url, at_once=5, eng_ray_max_documents=2) as at:
        small = await at.submit()
        large = replace(markdown(), sources=[markdown().sources[0] for _ in range(3)])
        task = (await at.engine.submit(large)).task_id
        last = await at.submit()
        await at.handed(small)
        await at.rounds()
        assert at.hosts.handed == [small]
        await at.engine.cancel(small, TENANT, ACTOR_LOST)
        await at.handed(task)
        await at.rounds()
        assert at.hosts.handed == [small, task]
        await at.engine.cancel(task, TENANT, ACTOR_LOST)
        await at.handed(last)


async def test_tenants_take_turns(url: str) -> None:
    async with bench(url) as at:
        first = await at.submit()
        await at.handed(first)
        a = [await at.submit(tenant="a") for _ in range(3)]
        b = [await at.submit(tenant="b") for _ in range(2)]
        for count in range(1, 1 + len(a + b)):
            at.hosts.end(at.hosts.handed[-1])
            await at.until(lambda count=count: len(at.hosts.handed) > count)  # type: ignore[misc]
        order = ["a" if task in a else "b" for task in at.hosts.handed[1:]]
        assert order in (["a", "b", "a", "b", "a"], ["b", "a", "b", "a", "a"])


async def test_a_tenant_has_no_more_tasks_at_work_than_it_may(url: str) -> None:
    async with bench(url, at_once=5, eng_ray_max_concurrent_tasks=2) as at:
        tasks = [await at.submit() for _ in range(3)]
        other = await at.submit(tenant="other")
        await at.handed(*tasks[:2], other)
        await at.rounds()
        assert tasks[2] not in at.hosts.handed


async def test_a_task_whose_actor_is_lost_runs_on_another(url: str) -> None:
    async with bench(url) as at:
        task = await at.submit()
        await at.handed(task)
        lost = at.hosts.has(task)
        at.hosts.lose(lost)
        await at.until(lambda: at.hosts.handed == [task, task])
        assert at.hosts.has(task) != lost
        assert at.ended == []


async def test_a_task_is_not_tried_again_for_ever(url: str) -> None:
    callback = CallbackSpec(url="https://example.com/hook")
    async with bench(url, retries=1) as at:
        task = await at.submit(callbacks=[callback])
        for tries in (1, 2):
            await at.until(lambda tries=tries: len(at.hosts.handed) == tries)  # type: ignore[misc]
            at.hosts.lose(at.hosts.has(task))
        await at.until(lambda: at.ended)
        assert (await at.engine.view(task)).failure == ACTOR_LOST
        (ended,) = at.ended
        assert (ended.task_id, ended.failure) == (task, ACTOR_LOST)
        assert [str(each.url) for each in ended.callbacks] == [str(callback.url)]


async def test_a_task_that_was_cancelled_is_not_tried_again(url: str) -> None:
    async with bench(url) as at:
        task = await at.submit()
        await at.handed(task)
        await at.engine.cancel(task, TENANT, ACTOR_LOST)
        at.hosts.lose(at.hosts.has(task))
        await at.until(lambda: len(at.hosts.started) == 2)
        await at.rounds()
        assert at.hosts.handed == [task]


async def test_actors_come_with_the_load_and_leave_without(url: str) -> None:
    async with bench(url, least=0, most=3, up_after_s=30, down_after_s=600) as at:
        await at.rounds()
        assert at.hosts.started == []
        tasks = [await at.submit() for _ in range(3)]
        await at.until(lambda: at.hosts.started)
        await at.rounds()
        at.now = 29
        await at.rounds()
        # The first actors come at once, all that the load asks for; later ones after a while.
        count = len(at.hosts.started)
        assert count == 3
        await at.handed(*tasks)
        for task in tasks:
            at.hosts.end(task)
        await at.rounds()
        at.now += 599
        await at.rounds()
        assert at.hosts.stopped == []
        at.now += 2
        await at.until(lambda: len(at.hosts.stopped) == count)


async def test_more_actors_wait_for_lasting_load(url: str) -> None:
    async with bench(url, least=1, most=2, up_after_s=30) as at:
        await at.until(lambda: at.hosts.alive)
        tasks = [await at.submit() for _ in range(2)]
        await at.handed(tasks[0])
        await at.rounds()
        at.now = 29
        await at.rounds()
        assert len(at.hosts.started) == 1
        at.now = 31
        await at.until(lambda: len(at.hosts.started) == 2)
        await at.handed(tasks[1])


@pytest.mark.parametrize("error", [RuntimeError("no such module"), HostLost("died at its start")])
async def test_an_actor_that_cannot_start_is_tried_again_later(url: str, error: Exception) -> None:
    hosts = StandInHosts()
    hosts.fails_to_start, hosts.start_error = 1, error
    async with bench(url, hosts) as at:
        task = await at.submit()
        await at.until(lambda: hosts.started)
        await at.rounds()
        assert len(hosts.started) == 1
        at.now = 2
        await at.handed(task)


async def test_a_new_dispatcher_takes_over(url: str) -> None:
    """Its actors and their tasks; those for other settings get no more, and exit."""
    other = "docling-serve-tasks-that-1"
    hosts = StandInHosts()
    async with bench(url, hosts) as at:
        task = await at.submit()
        await at.handed(task)
        ours = hosts.has(task)
    hosts.come(other)
    async with bench(url, hosts) as at:
        await at.until(lambda: other in hosts.stopped)
        second = await at.submit()
        await at.rounds()
        assert hosts.handed == [task]
        hosts.end(task)
        await at.handed(second)
        assert hosts.has(second) == ours


async def test_what_a_dispatcher_left_behind_is_found(url: str) -> None:
    async with bench(url) as at:
        task = await at.submit()
        await at.handed(task)
    async with bench(url, StandInHosts()) as at:
        redis = await jobkit_ray.connection(at.engine.state)
        await redis.hset(f"task:{task}:dispatch", "dispatched_at", "1")
        await at.rounds()
        assert at.hosts.handed == []
        at.now = 29
        await at.rounds()
        assert at.hosts.handed == []
        at.now = 31
        await at.until(lambda: at.hosts.handed == [task])


async def test_an_entry_that_cannot_be_read_holds_up_nothing(url: str) -> None:
    async with bench(url) as at:
        redis = await jobkit_ray.connection(at.engine.state)
        await redis.lpush(f"tenant:{TENANT}:tasks", '{"task_id": 7}')
        task = await at.submit()
        await at.handed(task)


async def test_documents_queued_by_another_server_are_taken(url: str) -> None:
    """docling-jobkit's gateway puts them into the queue itself."""
    async with bench(url) as at:
        task = await at.submit()
        await at.handed(task)
        payload = await at.engine._store.payload(task)
        assert payload is not None
        theirs = validate_task({**payload, "task_id": "theirs"})
        await at.engine.state.set_task_metadata("theirs", TENANT, theirs.task_type, 1)
        await at.engine.state.enqueue_task(TENANT, theirs)
        at.hosts.end(task)
        await at.handed("theirs")
        found = await at.engine._store.payload("theirs")
        assert found is not None
        assert found["sources"] == payload["sources"]


async def test_all_actors_are_cleared(url: str) -> None:
    async with bench(url) as at:
        task = await at.submit()
        await at.handed(task)
        await at.dispatcher.clear()
        assert at.hosts.cleared == [at.hosts.has(task)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Scaling(1, 10, 1, 1.0, 30.0, 600.0)),
        ({"eng_ray_target_requests_per_replica": 2.5}, Scaling(1, 10, 3, 2.5, 30.0, 600.0)),
        (
            {"eng_ray_max_ongoing_requests_per_replica": 4, "eng_ray_max_actors": 0},
            Scaling(1, 1, 4, 1.0, 30.0, 600.0),
        ),
    ],
)
def test_the_settings_of_scaling(changes: dict[str, Any], expected: Scaling) -> None:
    assert Scaling.from_settings(ray_settings("redis://there/", **changes)) == expected
    assert [expected.wanted(tasks) for tasks in (0, 1, 1000)] == [1, 1, expected.most]
