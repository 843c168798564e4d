"""A gateway's connection to the Ray cluster, and to the dispatcher there.

Ray's calls block, so one thread makes them all. A gateway works without the cluster: tasks are
accepted into Redis, until the cluster has been away for longer than is allowed.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from docling_serve.engines.ray.actors import DispatcherActor
from docling_serve.engines.ray.host_parts import Compose
from docling_serve.internals.jobkit_ray import parse_memory_bytes
from docling_serve.settings import DoclingServeSettings

_log = logging.getLogger(__name__)

T = TypeVar("T")

DISPATCHER = "docling-serve-dispatcher"


class ClusterUnavailable(RuntimeError):
    """The cluster or its dispatcher does not answer."""


class RayCluster:
    """Creating it connects to nothing."""

    def __init__(
        self,
        settings: DoclingServeSettings,
        compose: Compose,
        prepare: Callable[[DoclingServeSettings], None],
    ) -> None:
        self._settings = settings
        # What runs tasks has no use for the key that clients need.
        self._for_actors = settings.model_copy(update={"api_key": ""})
        self._compose = compose
        self._prepare = prepare
        self._identity = _identity(self._for_actors)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ray")
        self._dispatcher: Any = None
        self._was_bound = False
        self._reachable = False
        self._away_since: float | None = None
        self._error = "Ray is not connected yet"

    def require_reachable(self) -> None:
        """Raises ``ClusterUnavailable`` if the last check found the dispatcher away."""
        if not self._reachable:
            raise ClusterUnavailable(self._error)

    def require_alive(self) -> None:
        """Raises ``ClusterUnavailable`` if the dispatcher has been away for longer than
        ``eng_ray_liveness_fail_after``."""
        away_since = self._away_since
        if away_since is None:
            return
        if time.monotonic() - away_since > self._settings.eng_ray_liveness_fail_after:
            raise ClusterUnavailable(f"Ray's dispatcher was away for too long: {self._error}")

    async def supervise(self) -> None:
        """Keep connected, and a dispatcher in the cluster. Ends with ``ClusterUnavailable`` once
        that has failed for too long."""
        while True:
            await self._check()
            self.require_alive()
            await asyncio.sleep(self._settings.eng_ray_supervisor_poll_interval)

    async def clear(self) -> None:
        """Have all actors free what loaded converters hold. Raises ``ClusterUnavailable``."""
        self.require_reachable()
        try:
            await self._in_thread(self._clear)
        except (RayError, OSError) as exc:
            raise ClusterUnavailable(f"{type(exc).__name__}: {exc}") from exc

    async def close(self) -> None:
        """Disconnect. A cluster that this process started ends; the actors of others stay."""
        with suppress(Exception):
            await self._in_thread(ray.shutdown)
        self._thread.shutdown(wait=False, cancel_futures=True)

    # ---- internals --------------------------------------------------------------------------

    async def _check(self) -> None:
        try:
            await self._in_thread(self._connect_and_bind)
        except Exception as exc:  # noqa: BLE001 - Ray raises errors of many kinds
            self._error = f"{type(exc).__name__}: {exc}"
            self._reachable = False
            if self._away_since is None:
                self._away_since = time.monotonic()
            _log.warning("Ray's dispatcher does not answer: %s", self._error)
            return
        if not self._reachable:
            _log.info("connected to Ray's dispatcher")
        self._reachable, self._away_since = True, None

    def _clear(self) -> None:
        if self._dispatcher is None:  # since it was last reachable
            raise ClusterUnavailable(self._error)
        self._get(self._dispatcher.clear.remote())

    def _connect_and_bind(self) -> None:
        if not ray.is_initialized():
            self._dispatcher = None
            ray.init(**self._init_arguments())
        if self._dispatcher is not None:
            try:
                self._get(self._dispatcher.health.remote())
                return
            except Exception:
                self._dispatcher = None
                raise
        try:
            self._bind()
        except Exception:
            # Perhaps it is the session that is stale: the next check makes another.
            with suppress(Exception):
                ray.shutdown()
            raise

    def _bind(self) -> None:
        """Find the dispatcher, or make it. At first, one that was made for other settings, or by
        another version, is replaced: its actors finish their tasks. Later the dispatcher of a
        server that has started since is kept, as two servers would replace each other's for ever.
        """
        dispatcher = self._make()
        identity = self._get(dispatcher.health.remote(), starting=True)
        if identity != self._identity and not self._was_bound:
            _log.info("replacing the dispatcher of a server with other settings")
            ray.kill(dispatcher)
            dispatcher = self._make()
            identity = self._get(dispatcher.health.remote(), starting=True)
            if identity != self._identity:
                raise ClusterUnavailable("another server has just made a dispatcher")
        self._was_bound = True
        self._dispatcher = dispatcher

    def _make(self) -> Any:
        settings = self._settings
        options: dict[str, Any] = {
            "name": DISPATCHER,
            "namespace": settings.eng_ray_namespace,
            "lifetime": "detached",
            "get_if_exists": True,
            "num_cpus": settings.eng_ray_dispatcher_num_cpus,
            "max_restarts": settings.eng_ray_dispatcher_max_restarts,
            "max_task_retries": settings.eng_ray_dispatcher_max_task_retries,
        }
        memory = parse_memory_bytes(settings.eng_ray_dispatcher_memory_request)
        if memory is not None:
            options["memory"] = memory
        return (
            ray.remote(DispatcherActor)
            .options(**options)
            .remote(self._for_actors, self._compose, self._prepare, self._identity)
        )

    def _get(self, reference: Any, *, starting: bool = False) -> Any:
        """The reply to a call. A dispatcher that is being made has as long as the cluster may be
        away; otherwise the limit is that of a health check."""
        settings = self._settings
        limit_s = settings.eng_ray_dispatcher_rpc_timeout
        if starting:
            limit_s = max(limit_s, settings.eng_ray_liveness_fail_after)
        return ray.get(reference, timeout=limit_s)

    def _init_arguments(self) -> dict[str, Any]:
        settings = self._settings
        if settings.eng_ray_enable_mtls:
            _make_certificates(settings)
        arguments: dict[str, Any] = {
            "address": settings.eng_ray_address,
            "namespace": settings.eng_ray_namespace,
            "runtime_env": settings.eng_ray_runtime_env,
        }
        if settings.eng_ray_address != "local":
            return arguments
        if settings.eng_ray_generate_metrics:
            arguments["_metrics_export_port"] = settings.eng_ray_metrics_port
        memory = parse_memory_bytes(settings.eng_ray_object_store_memory)
        if memory is not None:
            arguments["object_store_memory"] = memory
        return arguments

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


def _identity(settings: DoclingServeSettings) -> str:
    """Changes with the settings and the version that actors are made for."""
    values = json.dumps(settings.model_dump(mode="json"), sort_keys=True, default=str)
    text = f"{importlib.metadata.version('docling-serve')} {values}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _make_certificates(settings: DoclingServeSettings) -> None:
    """Make the TLS certificates for the cluster, at every connection: the cluster may have been
    replaced by one with another authority (as docling-jobkit does)."""
    if not settings.eng_ray_cluster_name:
        raise ValueError("eng_ray_cluster_name must be set when eng_ray_enable_mtls is on")
    from codeflare_sdk import (  # type: ignore[import-not-found]  # noqa: PLC0415 - only for mTLS
        generate_cert,
    )

    names = (settings.eng_ray_cluster_name, settings.eng_ray_namespace)
    generate_cert.generate_tls_cert(*names, force_regenerate=True)
    generate_cert.export_env(*names)
