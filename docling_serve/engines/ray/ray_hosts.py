"""Task actors on a Ray cluster, as the dispatcher makes and calls them. For use in an actor.

An actor reserves CPUs, memory and a share of a GPU for as long as it exists, but holds no GPU
memory itself: the workers of its pool do, and they exit when they have nothing to do. It is
detached, so it survives the dispatcher. Ray never restarts it: the dispatcher starts another.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from docling_serve.engines.ray.actors import TaskActor
from docling_serve.engines.ray.dispatcher import HostLost
from docling_serve.engines.ray.host_parts import Compose
from docling_serve.internals.jobkit_ray import parse_memory_bytes
from docling_serve.settings import DoclingServeSettings

_log = logging.getLogger(__name__)

HOST_PREFIX = "docling-serve-tasks-"

_ASK_AGAIN_S = 1.0
_UNREACHABLE_S = 30.0
_STOP_WITHIN_S = 30.0


class NoNodeFree(RuntimeError):
    """Every node has as many task actors as it may have."""


class RayHosts:
    """Actors in the namespace of the settings; see :class:`dispatcher.Hosts`."""

    def __init__(self, settings: DoclingServeSettings, compose: Compose) -> None:
        self._settings = settings
        self._compose = compose
        self._handles: dict[str, Any] = {}
        self._nodes: dict[str, str] = {}
        self._ready: set[str] = set()
        self._placing = asyncio.Lock()

    async def existing(self) -> list[str]:
        """The names of all actors."""
        namespace = self._settings.eng_ray_namespace
        listed: Any = await asyncio.to_thread(ray.util.list_named_actors, all_namespaces=True)
        names = [each["name"] for each in listed if each["namespace"] == namespace]
        found = [name for name in names if name.startswith(HOST_PREFIX)]
        for name in found:
            self._handles[name] = await asyncio.to_thread(ray.get_actor, name, namespace)
        return found

    async def start(self, name: str) -> None:
        """Make an actor, and wait until it takes tasks."""
        try:
            async with self._placing:  # a node's actors are counted, so one is made after another
                self._handles[name] = await asyncio.to_thread(self._make, name)
            self._nodes[name] = await self._handles[name].start.remote()
            self._ready.add(name)
        except RayActorError as exc:
            await self._kill(name)
            raise HostLost(str(exc)) from exc
        except BaseException:
            await self._kill(name)
            raise

    async def running(self, name: str) -> list[str]:
        """The tasks that an actor runs."""
        try:
            self._nodes[name] = await self._call(name, "start")
            found: list[str] = await self._call(name, "running")
        except RayError:  # it exists, but cannot start
            await self._kill(name)
            raise
        self._ready.add(name)
        return found

    async def run(self, name: str, task_id: str) -> None:
        """Run a task to its end."""
        await self._call(name, "run", task_id)

    async def gone(self, name: str) -> None:
        """Wait until the actor does not exist any more."""
        with suppress(HostLost):
            await self._call(name, "live")
        self._forget(name)

    async def clear(self, name: str) -> None:
        """Have an actor free what loaded converters hold."""
        await self._call(name, "clear")

    async def stop(self, name: str) -> None:
        """Have an actor that runs nothing exit."""
        if name in self._ready:
            try:
                await asyncio.wait_for(self._call(name, "stop"), _STOP_WITHIN_S)
            except (HostLost, asyncio.TimeoutError):
                pass
            except RayError as exc:
                _log.warning("actor %s did not shut down: %s", name, exc)
        await self._kill(name)

    # ---- internals --------------------------------------------------------------------------

    def _make(self, name: str) -> Any:
        settings = self._settings
        memory = parse_memory_bytes(settings.eng_ray_converter_actor_memory_request)
        options: dict[str, Any] = {
            "name": name,
            "namespace": settings.eng_ray_namespace,
            "lifetime": "detached",
            "max_restarts": 0,
            "num_cpus": settings.eng_ray_converter_actor_num_cpus,
            "num_gpus": self._gpus(),
        }
        if memory is not None:
            options["memory"] = memory
        node = self._free_node()
        if node is not None:
            self._nodes[name] = node
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
        return ray.remote(TaskActor).options(**options).remote(settings, self._compose, name)

    def _gpus(self) -> float:
        share = self._settings.eng_ray_converter_actor_num_gpus
        if share is not None:
            return share
        return 1.0 if _gpus_of_cluster() >= 1 else 0.0

    def _free_node(self) -> str | None:
        """The node with the fewest task actors; None where that is not limited, so that Ray
        chooses."""
        limit = self._settings.eng_ray_converter_max_replicas_per_node
        if limit is None:
            return None
        there = Counter(self._nodes.values())
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        alive = [str(node["NodeID"]) for node in nodes if node["Alive"]]
        free = [node for node in alive if there[node] < limit]
        if not free:
            raise NoNodeFree(
                f"each of {len(alive)} node(s) has {limit} task actors"
                " (eng_ray_converter_max_replicas_per_node)"
            )
        return min(free, key=lambda node: there[node])

    async def _call(self, name: str, method: str, *arguments: Any) -> Any:
        """Call an actor, again if it was only out of reach. Calls may be repeated: each is about
        what shall be so, not about what to do."""
        handle = self._handles.get(name)
        if handle is None:
            raise HostLost(name)
        while True:
            try:
                return await getattr(handle, method).remote(*arguments)
            except ActorUnavailableError as exc:
                _log.warning("actor %s is out of reach: %s", name, exc)
                await self._require_reachable(name)
            except RayActorError as exc:
                raise HostLost(str(exc)) from exc

    async def _require_reachable(self, name: str) -> None:
        """Wait until an actor answers. One that does not for too long is killed: its tasks must
        not run twice."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _UNREACHABLE_S
        while loop.time() < until:
            try:
                await asyncio.wait_for(self._handles[name].running.remote(), _UNREACHABLE_S)
                return
            except ActorUnavailableError:
                await asyncio.sleep(_ASK_AGAIN_S)
            except asyncio.TimeoutError:
                break
            except (RayActorError, KeyError) as exc:
                raise HostLost(str(exc)) from exc
        await self._kill(name)
        raise HostLost(f"{name} does not answer")

    async def _kill(self, name: str) -> None:
        handle = self._forget(name)
        if handle is not None:
            with suppress(RayActorError, ValueError):
                await asyncio.to_thread(ray.kill, handle)

    def _forget(self, name: str) -> Any:
        self._nodes.pop(name, None)
        self._ready.discard(name)
        return self._handles.pop(name, None)


def _gpus_of_cluster() -> float:
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get("GPU", 0.0)
