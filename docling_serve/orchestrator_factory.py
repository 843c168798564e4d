"""Which engine runs the tasks: chosen here, from the settings, and nowhere else.

Importing this module is cheap; making an engine imports docling.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import docling_serve.settings as shared
from docling_serve.errors import Failure, TaskFailed
from docling_serve.jobs import JobResult, may_need_models
from docling_serve.settings import AsyncEngine, DoclingServeSettings

if TYPE_CHECKING:
    from docling_jobkit.datamodel.task import Task

    from docling_serve.engines.base import OnCallback
    from docling_serve.engines.local.engine import LocalEngine, Runner
    from docling_serve.engines.local.journal import Journal
    from docling_serve.engines.ray.engine import RayEngine
    from docling_serve.engines.rq.engine import RqEngine

    Engine = LocalEngine | RqEngine | RayEngine


@dataclass(frozen=True)
class LocalParts:
    """What the local engine is made of besides settings."""

    runner: Runner
    subprocess_mode: bool
    folders: Path
    on_callback: OnCallback
    clear_converters: Callable[[], Awaitable[None]]
    journal: Journal | None = None
    keep: bool = False


class EngineUnavailable(ValueError):
    """The settings ask for an engine that this server does not have."""


def require_engine(settings: DoclingServeSettings) -> None:
    """Find out at the start whether the chosen engine can work.

    Raises:
        EngineUnavailable: there is no such engine here.
        ConnectionError: what it works with cannot be reached (upstream M105).
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
    """Find out at the start whether so many server processes can work with the chosen engine.

    Raises:
        EngineUnavailable: its tasks are kept in a folder, which belongs to one of them.
    """
    kept = settings.scratch_path is not None and settings.eng_kind is AsyncEngine.LOCAL
    if kept and (workers or 1) > 1:
        raise EngineUnavailable(
            f"{workers} server processes cannot share one scratch_path: each has its own tasks."
            " Use one process (subprocess_max_workers makes it convert in parallel), eng_kind=rq,"
            " or no scratch_path."
        )


def make_engine(settings: DoclingServeSettings, parts: Callable[[], LocalParts]) -> Engine:
    """The engine for ``settings``; ``parts`` is called if it is the local one."""
    if settings.eng_kind is AsyncEngine.RQ:
        from docling_serve.engines.rq.engine import RqEngine  # noqa: PLC0415

        return RqEngine(settings)
    if settings.eng_kind is AsyncEngine.RAY:
        from docling_serve.engines.ray.engine import RayEngine  # noqa: PLC0415 - imports ray and torch

        return RayEngine(settings)
    return _local_engine(settings, parts())


@functools.lru_cache(maxsize=1)
def get_async_orchestrator() -> Engine:
    """The engine of this process for the shared settings, for code outside the server.

    In a server process it is the server's own. Elsewhere a local engine refuses to run tasks,
    since nothing there has its queue worked on.
    """
    settings = shared.docling_serve_settings
    require_engine(settings)
    return _Current.engine or make_engine(settings, _no_parts)


def set_current_engine(engine: Engine | None) -> None:
    """Tell which engine the server of this process works with."""
    _Current.engine = engine
    get_async_orchestrator.cache_clear()


def _no_parts() -> LocalParts:
    from docling_serve.storage import get_scratch  # noqa: PLC0415

    async def refuse(engine: LocalEngine, task: Task) -> JobResult:
        del engine, task
        raise TaskFailed(Failure("internal", "No server runs in this process."))

    async def nothing() -> None:
        return None

    return LocalParts(refuse, False, get_scratch(), lambda *_: None, nothing)


class _Current:
    """A holder, so that the server can put its engine here and take it away again."""

    engine: Engine | None = None


def _local_engine(settings: DoclingServeSettings, parts: LocalParts) -> LocalEngine:
    from docling_serve.engines.converter_config import (  # noqa: PLC0415
        converter_config,
        presigned_config,
    )
    from docling_serve.engines.local.engine import LocalEngine  # noqa: PLC0415
    from docling_serve.engines.local.lines import QueueLimits  # noqa: PLC0415
    from docling_serve.engines.local.upkeep import RetentionRules  # noqa: PLC0415

    pooled = parts.subprocess_mode
    workers = settings.subprocess_max_workers if pooled else settings.eng_loc_num_workers
    light = settings.subprocess_light_workers
    return LocalEngine(
        runner=parts.runner,
        # One more than can run: the workers then know that a task waits, and stay for it.
        hand_over=workers + 1 if pooled else workers,
        workers=workers,
        hand_over_light=light + 1 if pooled and light else 0,
        workers_light=light,
        is_light=lambda spec, folder: not may_need_models(spec, folder),
        folders=parts.folders,
        journal=parts.journal,
        keep=parts.keep,
        max_attempts=settings.eng_loc_max_attempts,
        limits=QueueLimits(
            tasks=settings.eng_loc_max_queued_tasks,
            bytes=settings.eng_loc_max_queued_bytes,
            age_s=settings.eng_loc_max_queue_age,
        ),
        retention=RetentionRules(
            max_age_s=settings.eng_loc_max_result_age,
            max_bytes=settings.eng_loc_max_results_bytes,
        ),
        converter_config=converter_config(settings),
        presigned_config=presigned_config(settings),
        result_removal_delay_s=settings.result_removal_delay,
        single_use_results=settings.single_use_results,
        debug_error_details=settings.debug_error_details,
        on_callback=parts.on_callback,
        clear_converters=parts.clear_converters,
    )
