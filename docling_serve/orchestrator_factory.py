"""Which engine runs the tasks: chosen only here, from the settings.

Importing this module is cheap; making an engine imports docling.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import docling_serve.settings as shared
from docling_serve.errors import Failure, TaskFailed
from docling_serve.settings import AsyncEngine, DoclingServeSettings

if TYPE_CHECKING:
    from docling_serve.engines.base import OnCallback
    from docling_serve.engines.local.engine import LocalEngine
    from docling_serve.engines.local.journal import Journal
    from docling_serve.engines.ray.engine import RayEngine
    from docling_serve.engines.ray.host_parts import HostParts
    from docling_serve.engines.rq.engine import RqEngine
    from docling_serve.jobs.run_request import Gate, RunRequest
    from docling_serve.jobs.spec import JobResult

    Engine = LocalEngine | RqEngine | RayEngine


@dataclass(frozen=True)
class EngineParts:
    """What an engine needs in addition to settings. Only the local engine runs tasks itself:
    everything but ``on_callback`` and ``ray`` is for it. ``pooled`` says that its tasks run in
    worker processes, ``keep`` that they outlive this process."""

    gate: Gate
    pooled: bool
    keep: bool
    folders: Path
    journal: Journal | None
    clear_converters: Callable[[], Awaitable[None]]
    on_callback: OnCallback
    cache_folder: Path | None = None
    ray: RayParts | None = None


@dataclass(frozen=True)
class RayParts:
    """What processes on a Ray cluster call first, by reference: ``compose`` makes the gate and the
    runner of an actor that runs tasks, ``prepare`` sets up the dispatcher's process."""

    compose: Callable[[DoclingServeSettings], HostParts]
    prepare: Callable[[DoclingServeSettings], None]


class EngineUnavailable(ValueError):
    """The settings ask for an engine that this server does not have."""


def require_engine(settings: DoclingServeSettings) -> None:
    """Check at startup whether the chosen engine can work.

    Raises:
        EngineUnavailable: this server does not have that engine.
        ConnectionError: a service it depends on cannot be reached (upstream M105).
    """
    if settings.eng_kind is AsyncEngine.LOCAL:
        return
    from docling_serve.engines.redis.reach import require_redis  # noqa: PLC0415

    if settings.eng_kind is AsyncEngine.RQ:
        require_redis(settings.eng_rq_redis_url)
        return
    if importlib.util.find_spec("ray") is None:
        raise EngineUnavailable(
            "eng_kind=ray (DOCLING_SERVE_ENG_KIND) needs Ray: pip install 'docling-serve[ray]'"
        )
    require_redis(settings.eng_ray_redis_url, "DOCLING_SERVE_ENG_RAY_REDIS_URL")


def require_one_process(settings: DoclingServeSettings, workers: int | None) -> None:
    """Check at startup whether the chosen engine supports this many server processes.

    Raises:
        EngineUnavailable: its tasks are kept in a folder, which only one process may own.
    """
    kept = settings.scratch_path is not None and settings.eng_kind is AsyncEngine.LOCAL
    if kept and (workers or 1) > 1:
        raise EngineUnavailable(
            f"{workers} server processes cannot share one scratch_path: each has its own tasks."
            " Use one process (subprocess_max_workers makes it convert in parallel), eng_kind=rq,"
            " or no scratch_path."
        )


def make_engine(settings: DoclingServeSettings, parts: EngineParts) -> Engine:
    """The engine for ``settings``."""
    if settings.eng_kind is AsyncEngine.RQ:
        from docling_serve.engines.rq.engine import RqEngine  # noqa: PLC0415

        return RqEngine(settings, parts.on_callback)
    if settings.eng_kind is AsyncEngine.RAY:
        from docling_serve.engines.ray.cluster import RayCluster  # noqa: PLC0415 - imports ray
        from docling_serve.engines.ray.engine import RayEngine  # noqa: PLC0415

        assert parts.ray is not None
        cluster = RayCluster(settings, parts.ray.compose, parts.ray.prepare)
        return RayEngine(settings, cluster, parts.on_callback)
    from docling_serve.engines.local.engine import LocalEngine  # noqa: PLC0415
    from docling_serve.engines.local.rules import LocalRules  # noqa: PLC0415

    return LocalEngine(
        parts.gate,
        LocalRules.from_settings(settings, pooled=parts.pooled, keep=parts.keep),
        parts.folders,
        parts.journal,
        cache_folder=parts.cache_folder,
        on_callback=parts.on_callback,
        clear_converters=parts.clear_converters,
    )


@functools.lru_cache(maxsize=1)
def get_async_orchestrator() -> Engine:
    """The engine of this process for the shared settings, for code outside the server.

    In a server process it is the server's own. Elsewhere a local engine refuses to run tasks, since
    nothing there processes its queue.
    """
    settings = shared.docling_serve_settings
    require_engine(settings)
    return _Current.engine or make_engine(settings, _no_parts())


def set_current_engine(engine: Engine | None) -> None:
    """Register the engine that the server of this process uses."""
    _Current.engine = engine
    get_async_orchestrator.cache_clear()


def _no_parts() -> EngineParts:
    """The parts of an engine that runs nothing."""
    from docling_serve.storage import get_scratch  # noqa: PLC0415

    async def refuse(request: RunRequest) -> JobResult:
        del request
        raise TaskFailed(Failure("internal", "No server runs in this process."))

    async def nothing() -> None:
        return None

    return EngineParts(
        *(refuse, False, False, get_scratch(), None, nothing, lambda *_: None),
        ray=RayParts(_no_server, _no_server),
    )


def _no_server(settings: DoclingServeSettings) -> NoReturn:
    """Called on a Ray cluster. Outside a server, an engine never connects to one."""
    del settings
    raise EngineUnavailable("No server runs in this process.")


class _Current:
    """A holder, so that the server can install its engine here and remove it again."""

    engine: Engine | None = None
