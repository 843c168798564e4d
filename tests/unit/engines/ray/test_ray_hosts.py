"""What the dispatcher asks Ray for, with stand-ins for Ray's functions."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from docling_serve.ray_processes import compose_task_actor
from tests.helpers.ray_engines import ray_settings, require_ray

require_ray()

import ray  # noqa: E402
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError  # noqa: E402

from docling_serve.engines.ray import ray_hosts  # noqa: E402
from docling_serve.engines.ray.dispatcher import HostLost  # noqa: E402
from docling_serve.engines.ray.ray_hosts import RayHosts  # noqa: E402

GIB = 2**30


class StandInMethod:
    """A method of an actor: its calls end with what the test lists, the last one again and
    again."""

    def __init__(self, *ends: Any) -> None:
        self._ends = list(ends)

    async def remote(self, *_: Any) -> Any:
        end = self._ends.pop(0) if len(self._ends) > 1 else self._ends[0]
        if isinstance(end, BaseException):
            raise end
        return end


class StandInActor:
    """The handle of an actor."""

    def __init__(self, node: str = "node-1") -> None:
        self.start: StandInMethod = StandInMethod(node)
        self.run = StandInMethod(None)
        self.running: StandInMethod = StandInMethod([])
        self.stop = StandInMethod(None)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of the actors that are made, each a stand-in."""
    options: list[dict[str, Any]] = []

    class Recorder:
        def options(self, **given: Any) -> Recorder:
            options.append(given)
            return self

        def remote(self, *_: Any) -> StandInActor:
            return StandInActor(f"{len(options):056x}")

    monkeypatch.setattr(ray, "remote", lambda _: Recorder())
    monkeypatch.setattr(ray, "kill", lambda _: None)
    return options


def hosts_for(**settings: Any) -> RayHosts:
    return RayHosts(ray_settings("redis://there/", **settings), compose_task_actor)


@pytest.mark.parametrize(
    ("share", "in_cluster", "expected"),
    [(None, 0.0, 0.0), (None, 4.0, 1.0), (0.25, 4.0, 0.25), (0.0, 4.0, 0.0)],
)
async def test_an_actor_reserves_its_share_of_a_gpu(
    made: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    share: float | None,
    in_cluster: float,
    expected: float,
) -> None:
    monkeypatch.setattr(ray_hosts, "_gpus_of_cluster", lambda: in_cluster)
    hosts = hosts_for(
        eng_ray_converter_actor_num_gpus=share,
        eng_ray_converter_actor_num_cpus=2.0,
        eng_ray_converter_actor_memory_request="2Gi",
        eng_ray_namespace="n",
    )

    await hosts.start("a")

    (options,) = made
    assert (options["num_gpus"], options["num_cpus"]) == (expected, 2.0)
    assert (options["memory"], options["namespace"]) == (2 * GIB, "n")
    assert (options["lifetime"], options["max_restarts"]) == ("detached", 0)


async def test_a_node_has_no_more_actors_than_it_may(
    made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_hosts, "_gpus_of_cluster", lambda: 0.0)
    ids = [f"{number:056x}" for number in (1, 2, 3)]
    nodes = [{"NodeID": node, "Alive": node != ids[2]} for node in ids]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    hosts = hosts_for(eng_ray_converter_max_replicas_per_node=1)

    await hosts.start("a")
    await hosts.start("b")
    with pytest.raises(ray_hosts.NoNodeFree, match="max_replicas_per_node"):
        await hosts.start("c")

    chosen = [options["scheduling_strategy"].node_id for options in made]
    assert chosen == ids[:2]


async def test_actors_of_an_earlier_dispatcher_count_on_their_nodes(
    made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"{number:056x}" for number in (1, 2)]
    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": node, "Alive": True} for node in ids])
    hosts = hosts_for(eng_ray_converter_max_replicas_per_node=1, eng_ray_converter_actor_num_gpus=0)
    hosts._handles["adopted"] = StandInActor(ids[0])

    assert await hosts.running("adopted") == []
    await hosts.start("a")

    assert [options["scheduling_strategy"].node_id for options in made] == ids[1:]


async def test_actors_are_placed_one_after_another(
    made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work = 0

    async def stand_in_thread(function: Any, *arguments: Any) -> Any:
        nonlocal at_work
        at_work += 1
        assert at_work == 1
        await asyncio.sleep(0)
        at_work -= 1
        return function(*arguments)

    hosts = hosts_for(eng_ray_converter_actor_num_gpus=0)
    monkeypatch.setattr(asyncio, "to_thread", stand_in_thread)
    await asyncio.gather(hosts.start("a"), hosts.start("b"))

    assert len(made) == 2


@pytest.mark.parametrize("method", ["stop", "running"])
async def test_an_actor_that_fails_at_it_is_killed(
    made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Or what it has reserved on the cluster would stay reserved."""
    killed: list[Any] = []
    monkeypatch.setattr(ray, "kill", killed.append)
    hosts = hosts_for(eng_ray_converter_actor_num_gpus=0)
    await hosts.start("a")
    assert made
    handle = hosts._handles["a"]
    setattr(handle, method, StandInMethod(RayTaskError(method, "", ValueError("broken"))))

    with suppress(RayTaskError):
        await getattr(hosts, method)("a")

    assert killed == [handle]


async def test_an_actor_that_is_gone_is_lost(made: list[dict[str, Any]]) -> None:
    hosts = hosts_for(eng_ray_converter_actor_num_gpus=0)
    await hosts.start("a")
    assert made
    hosts._handles["a"].run = StandInMethod(ActorDiedError())

    with pytest.raises(HostLost):
        await hosts.run("a", "task")
    with pytest.raises(HostLost):
        await hosts.run("unknown", "task")


async def test_an_actor_that_is_out_of_reach_for_a_moment_is_not_lost(
    made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_hosts, "_ASK_AGAIN_S", 0.0)
    away = ActorUnavailableError("away", None)
    hosts = hosts_for(eng_ray_converter_actor_num_gpus=0)
    await hosts.start("a")
    assert made
    hosts._handles["a"].run = StandInMethod(away, None)
    hosts._handles["a"].running = StandInMethod(away, [])

    await hosts.run("a", "task")


async def test_an_actor_that_stays_out_of_reach_is_killed(
    made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_hosts, "_UNREACHABLE_S", 0.0)
    killed: list[Any] = []
    monkeypatch.setattr(ray, "kill", killed.append)
    hosts = hosts_for(eng_ray_converter_actor_num_gpus=0)
    await hosts.start("a")
    assert made
    handle = hosts._handles["a"]
    handle.run = StandInMethod(ActorUnavailableError("away", None))

    with pytest.raises(HostLost):
        await hosts.run("a", "task")
    assert killed == [handle]
