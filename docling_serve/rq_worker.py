"""Assembles ``docling-serve rq-worker``, the process that runs the tasks of the rq engine."""

from __future__ import annotations

import functools
import logging
from typing import Any

import docling_serve.settings as shared
from docling_serve.app import start_mode
from docling_serve.observability.logging import configure_logging
from docling_serve.running.entering import enter_mode
from docling_serve.running.gate import run_request
from docling_serve.running.runtime import Runtime, log_level
from docling_serve.settings import DoclingServeSettings, find_unknown_settings

_log = logging.getLogger(__name__)

_BETWEEN_JOBS_S = 1.0


def run_rq_worker(settings: DoclingServeSettings | None = None, workers: int | None = None) -> int:
    """Run the jobs that gateways put into Redis until a signal ends it; returns the exit code.
    ``workers`` is how many run at the same time, None for what the settings say.

    Raises:
        ConnectionError: Redis cannot be reached.
    """
    from docling_serve.engines.redis.reach import require_redis  # noqa: PLC0415 - not for others

    settings = settings or shared.docling_serve_settings
    workers = workers or settings.eng_rq_workers
    threads = workers or settings.eng_loc_num_workers
    settings = settings.model_copy(
        update={"eng_rq_workers": workers, "eng_loc_num_workers": threads}
    )
    configure_logging(log_level(settings), settings.log_format.value)
    for unknown in find_unknown_settings(settings):
        _log.warning("%s", unknown)
    require_redis(settings.eng_rq_redis_url)
    runtime = Runtime.decide(settings, for_workers=_as_rq_worker)
    enter_mode(runtime)
    from docling_serve.api.services import Readiness  # noqa: PLC0415
    from docling_serve.engines.redis.lines import Takes  # noqa: PLC0415
    from docling_serve.engines.rq.worker import RqWorkerProcess, WorkerParts  # noqa: PLC0415

    light = runtime.settings.subprocess_light_workers if runtime.subprocess_mode else 0
    takes = [Takes.ANY]
    if workers is not None:
        takes = [Takes.HEAVY if light else Takes.ANY] * workers + [Takes.LIGHT] * light
    pool = runtime.pool
    parts = WorkerParts(
        gate=functools.partial(run_request, runtime=runtime),
        isolated=runtime.subprocess_mode,
        prepare=lambda: start_mode(runtime, Readiness()),
        runner=runtime.runner,
        guardian=runtime.guardian,
        takes=takes,
        describe_pool=functools.partial(_described, runtime) if pool is not None else None,
        stop_worker=pool.stop_worker if pool is not None else None,
    )
    return RqWorkerProcess(settings, parts).run()


def _described(runtime: Runtime) -> dict[str, Any]:
    """The pool as gateways may know it: the last output of a worker may name documents."""
    assert runtime.pool is not None
    described = runtime.pool.describe()
    if not runtime.settings.debug_error_details:
        described["ended"] = [{**worker, "last_output": []} for worker in described["ended"]]
    return described


def _as_rq_worker(settings: DoclingServeSettings) -> DoclingServeSettings:
    """The pool of an rq-worker does not see whether another task waits in Redis, so its worker
    processes stay for the moment that fetching the next job takes."""
    changes: dict[str, object] = {"subprocess_max_workers": settings.eng_rq_workers or 1}
    if settings.frees_vram_on_idle(True):
        changes |= {"free_vram_on_idle": False, "subprocess_idle_timeout": _BETWEEN_JOBS_S}
    return settings.model_copy(update=changes)
