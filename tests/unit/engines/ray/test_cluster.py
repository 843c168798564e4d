"""A gateway's connection to a cluster, with stand-ins for Ray's functions."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from docling_serve.ray_processes import compose_task_actor, prepare_dispatcher
from tests.helpers.ray_engines import ray_settings, require_ray

require_ray()

import ray  # noqa: E402
from ray.exceptions import ActorDiedError, GetTimeoutError  # noqa: E402

from docling_serve.engines.ray.cluster import ClusterUnavailable, RayCluster  # noqa: E402


class StandInCluster:
    """Ray's functions; the dispatcher there was made for ``identity``, if there is one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, identity: str | None = None) -> None:
        self.identity = identity
        self.made: list[dict[str, Any]] = []
        self.given: tuple[Any, ...] = ()
        self.init_with: dict[str, Any] = {}
        self.connected = False
        self.error: Exception | None = None
        for name in ("init", "is_initialized", "shutdown", "remote", "get", "kill"):
            monkeypatch.setattr(ray, name, getattr(self, name))

    def init(self, **arguments: Any) -> None:
        self.init_with = arguments
        self.connected = True

    def is_initialized(self) -> bool:
        return self.connected

    def shutdown(self) -> None:
        self.connected = False

    def remote(self, _: type) -> Any:
        def options(**given: Any) -> Any:
            self.made.append(given)
            return SimpleNamespace(remote=self._make)

        return SimpleNamespace(options=options)

    def _make(self, *arguments: Any) -> Any:
        self.given = arguments
        if self.identity is None:
            self.identity = arguments[-1]
        call = SimpleNamespace(remote=lambda: None)
        return SimpleNamespace(health=call, clear=call)

    def get(self, reference: object, timeout: float) -> Any:
        del reference, timeout
        if self.error is not None:
            raise self.error
        return self.identity

    def kill(self, _: Any) -> None:
        self.identity = None


def cluster_for(**values: Any) -> RayCluster:
    settings = ray_settings("redis://there/", **values)
    return RayCluster(settings, compose_task_actor, prepare_dispatcher)


async def test_a_dispatcher_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    there = StandInCluster(monkeypatch)
    cluster = cluster_for(eng_ray_namespace="n", eng_ray_dispatcher_memory_request="1Gi")
    with pytest.raises(ClusterUnavailable, match="not connected"):
        cluster.require_reachable()

    await cluster._check()

    cluster.require_reachable()
    (options,) = there.made
    assert (options["namespace"], options["lifetime"]) == ("n", "detached")
    assert (options["memory"], options["get_if_exists"]) == (2**30, True)
    await cluster.close()


async def test_one_for_the_same_settings_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    there = StandInCluster(monkeypatch)
    for _ in range(2):
        cluster = cluster_for(api_key="a")
        await cluster._check()
        await cluster._check()
        await cluster.close()
    assert len(there.made) == 2
    assert there.given[0].api_key == ""

    other = cluster_for(max_num_pages=3)
    await other._check()
    assert len(there.made) == 4, "found, and made anew"
    assert there.identity == other._identity
    await other.close()


async def test_servers_with_other_settings_do_not_replace_each_other_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The newest has its dispatcher; the others use it."""
    there = StandInCluster(monkeypatch)
    older, newer = cluster_for(), cluster_for(max_num_pages=3)
    await older._check()
    await newer._check()
    assert there.identity == newer._identity

    older._dispatcher = None  # Ray has told it that its dispatcher was killed
    await older._check()

    older.require_reachable()
    assert there.identity == newer._identity
    await older.close()
    await newer.close()


async def test_a_dispatcher_that_another_server_made_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = StandInCluster(monkeypatch, identity="theirs")
    cluster = cluster_for()
    monkeypatch.setattr(ray, "kill", lambda _: None)

    await cluster._check()

    with pytest.raises(ClusterUnavailable, match="another server"):
        cluster.require_reachable()
    monkeypatch.setattr(ray, "kill", there.kill)
    await cluster._check()
    cluster.require_reachable()
    assert there.identity == cluster._identity
    await cluster.close()


async def test_a_cluster_that_is_away_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    there = StandInCluster(monkeypatch)
    cluster = cluster_for(eng_ray_liveness_fail_after=100.0)
    await cluster._check()
    there.error = RuntimeError("gone")

    await cluster._check()

    with pytest.raises(ClusterUnavailable, match="gone"):
        cluster.require_reachable()
    cluster.require_alive()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 101)
    with pytest.raises(ClusterUnavailable, match="too long"):
        cluster.require_alive()
    with pytest.raises(ClusterUnavailable):
        await cluster.supervise()

    there.error = None
    await cluster._check()
    cluster.require_alive()
    await cluster.clear()
    await cluster.close()


@pytest.mark.parametrize("error", [GetTimeoutError("late"), ActorDiedError(), ConnectionError()])
async def test_converters_cannot_be_cleared_without_a_dispatcher(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    there = StandInCluster(monkeypatch)
    cluster = cluster_for()
    await cluster._check()
    there.error = error
    with pytest.raises(ClusterUnavailable):
        await cluster.clear()

    there.error, cluster._dispatcher = None, None
    with pytest.raises(ClusterUnavailable):
        await cluster.clear()
    await cluster.close()


@pytest.mark.parametrize(("address", "own"), [("local", True), ("ray://head:10001", False)])
async def test_what_only_a_cluster_of_our_own_takes(
    monkeypatch: pytest.MonkeyPatch, address: str, own: bool
) -> None:
    there = StandInCluster(monkeypatch)
    cluster = cluster_for(
        eng_ray_address=address,
        eng_ray_object_store_memory="1GB",
        eng_ray_generate_metrics=True,
        eng_ray_runtime_env={"env_vars": {"A": "b"}},
    )

    await cluster._check()

    assert (there.init_with["address"], there.init_with["runtime_env"]) == (
        address,
        {"env_vars": {"A": "b"}},
    )
    assert ("object_store_memory" in there.init_with) is own
    assert ("_metrics_export_port" in there.init_with) is own
    await cluster.close()


async def test_certificates_are_made_for_mutual_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    stand_in = SimpleNamespace(
        generate_tls_cert=lambda *names, **_: calls.append(("make", *names)),
        export_env=lambda *names: calls.append(("export", *names)),
    )
    monkeypatch.setitem(sys.modules, "codeflare_sdk", SimpleNamespace(generate_cert=stand_in))
    StandInCluster(monkeypatch)
    cluster = cluster_for(eng_ray_enable_mtls=True, eng_ray_cluster_name="c", eng_ray_namespace="n")

    await cluster._check()

    assert calls == [("make", "c", "n"), ("export", "c", "n")]
    await cluster.close()
