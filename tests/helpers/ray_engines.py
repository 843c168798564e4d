"""The ray engine inside a test, on a real Redis, and clusters of several nodes for others."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from docling_serve.engines.base import OnCallback
from docling_serve.ray_processes import compose_task_actor, prepare_dispatcher
from docling_serve.settings import AsyncEngine, DoclingServeSettings
from tests.helpers import server_processes as processes
from tests.helpers.loops import PATIENCE_S
from tests.helpers.rest_server import settings_of

if TYPE_CHECKING:
    from docling_serve.engines.ray.engine import RayEngine


def require_ray() -> None:
    """Without Ray tests are skipped here, and fail where CI is set."""
    if importlib.util.find_spec("ray") is None:
        reason = "ray is not installed (pip install 'docling-serve[ray]')"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason, allow_module_level=True)


def ray_settings(url: str, **values: Any) -> DoclingServeSettings:
    """Settings of a gateway with its Redis at ``url``."""
    given = {"eng_ray_address": "local", **values}
    return settings_of(eng_kind=AsyncEngine.RAY, eng_ray_redis_url=url, **given)


@asynccontextmanager
async def gateway(
    url: str, on_callback: OnCallback = lambda *_: None, **settings: Any
) -> AsyncIterator[RayEngine]:
    """An engine that follows what actors do, without a cluster."""
    engine = ray_engine(url, on_callback, **settings)
    following = asyncio.create_task(engine.follow())
    try:
        await asyncio.wait_for(_listening(engine), PATIENCE_S)
        yield engine
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await engine.close()


def ray_engine(url: str, on_callback: OnCallback = lambda *_: None, **values: Any) -> RayEngine:
    """An engine that connects to nothing."""
    from docling_serve.engines.ray.cluster import RayCluster
    from docling_serve.engines.ray.engine import RayEngine

    settings = ray_settings(url, **values)
    cluster = RayCluster(settings, compose_task_actor, prepare_dispatcher)
    return RayEngine(settings, cluster, on_callback)


async def _listening(engine: RayEngine) -> None:
    while engine.listener is None or not engine.listener.listening.is_set():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


class RayNodes:
    """A Ray cluster on this machine: a head, on which only a dispatcher has room, and nodes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cluster: Any = None
        self._nodes: list[Any] = []

    def __enter__(self) -> RayNodes:
        from ray.cluster_utils import Cluster

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
            patch.setenv("RAY_TMPDIR", str(self._folder))
            patch.setenv("RAY_worker_niceness", "0")
            self._cluster = Cluster(shutdown_at_exit=True)
            self._start_node(num_cpus=1)
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.shutdown()

    @property
    def address(self) -> str:
        """What a gateway connects to."""
        return str(self._cluster.address)

    def add(self) -> None:
        """Another node."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_TMPDIR", str(self._folder))
            patch.setenv("RAY_worker_niceness", "0")
            self._nodes.append(self._start_node(num_cpus=2))

    def kill_first(self) -> None:
        """Kill the processes of the first node."""
        self._cluster.remove_node(self._nodes.pop(0), allow_graceful=False)

    def actors(self, kind: str = "") -> list[psutil.Process]:
        """The processes of our actors on nodes that live, of one class or of all."""
        kinds = (f"ray::{kind}",) if kind else ("ray::TaskActor", "ray::DispatcherActor")
        raylets = [
            node.all_processes["raylet"][0].process.pid
            for node in [self._cluster.head_node, *self._nodes]
        ]
        found = [process for raylet in raylets for process in processes.tree(raylet)]
        return [process for process in found if _command(process).startswith(kinds)]

    def workers(self) -> list[psutil.Process]:
        """The processes in which actors convert."""
        actors = self.actors("TaskActor")
        return [worker for actor in actors for worker in processes.workers(actor.pid)]

    def _start_node(self, **resources: int) -> Any:
        """Ray gives a node 30 s to start, which is not always enough on a busy machine."""
        this = psutil.Process()
        for tries in range(_STARTS):
            before = set(this.children())
            try:
                return self._cluster.add_node(**_NODE, **resources)
            except Exception:
                for process in set(this.children()) - before:
                    process.kill()
                if tries == _STARTS - 1:
                    raise
        raise AssertionError


_STARTS = 8
#: Room for what is converted is in Redis, so Ray's own store of objects stays small.
_NODE = {"object_store_memory": 80 * 2**20, "include_dashboard": False}


def _command(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""
