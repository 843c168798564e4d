"""The composition root: which parts make the server, and the gate every task passes.

Importing this module configures nothing; :func:`create_app` reads the settings, decides the mode
and puts the parts together; the app's lifespan starts and stops them.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI

import docling_serve.settings as shared
from docling_serve.collector import gc_paused
from docling_serve.deferred_imports import TABLES, defer
from docling_serve.errors import ShuttingDown, TaskFailed
from docling_serve.failure_place import with_place
from docling_serve.jobs import JobProgress, JobResult
from docling_serve.light_imports import leave_out_torch
from docling_serve.observability.logging import configure_logging
from docling_serve.orchestrator_factory import (
    EngineParts,
    make_engine,
    require_engine,
    set_current_engine,
)
from docling_serve.running import RunRequest
from docling_serve.runtime import Runtime, log_level
from docling_serve.settings import AsyncEngine, DoclingServeSettings, find_unknown_settings
from docling_serve.shared_weights import preload_models_mmap
from docling_serve.shutdown import Shutdown
from docling_serve.storage import KeptScratch, Scratch
from docling_serve.subprocess_worker import share_worker_pool
from docling_serve.vram import neighbours

if TYPE_CHECKING:
    from docling_serve.api.services import Readiness, Services
    from docling_serve.orchestrator_factory import Engine
    from docling_serve.policy import ServicePolicy

_log = logging.getLogger(__name__)

_BETWEEN_JOBS_S = 1.0


# ---- the gate -----------------------------------------------------------------------------


async def process_task_with_vram_management(request: RunRequest, *, runtime: Runtime) -> JobResult:
    """Run one task where the mode says: in a worker process, or in a thread of this one.

    Raises:
        TaskFailed: the task ended without a result; the failure says at which document.
    """
    latest: JobProgress | None = None

    def on_progress(progress: JobProgress) -> None:
        nonlocal latest
        latest = progress
        request.listeners.on_progress(progress)

    heard = replace(request, listeners=replace(request.listeners, on_progress=on_progress))
    try:
        if runtime.subprocess_mode:
            return await runtime.runner.run(heard)
        return await _run_here(heard, runtime)
    except TaskFailed as exc:
        exc.failure = with_place(exc.failure, request.spec, latest)
        raise


async def _run_here(request: RunRequest, runtime: Runtime) -> JobResult:
    if not request.light:
        await unload_external_models(runtime)
    try:
        return await runtime.runner.run(request)
    finally:
        await cleanup_models_if_needed(runtime, idle=request.waiting() == 0)


async def ensure_models_loaded(runtime: Runtime) -> None:
    """Load the default models into this process; in subprocess mode there is nothing to load, but
    weights of ``artifacts_path`` are read into the page cache, which all workers share."""
    if runtime.subprocess_mode:
        _log.info("subprocess mode: models are loaded by workers, not by this process")
        if runtime.settings.artifacts_path is not None:
            await _preload_weights(runtime.settings.artifacts_path)
        return
    await runtime.runner.warm_up()


async def _preload_weights(folder: Path) -> None:
    stop = threading.Event()
    try:
        await asyncio.to_thread(preload_models_mmap, folder, stopped=stop.is_set)
    finally:
        stop.set()  # a thread cannot be cancelled, and must not hold up the end of the server


async def cleanup_models_if_needed(runtime: Runtime, *, idle: bool) -> None:
    """Drop loaded models when nothing waits and memory is to be given back; in subprocess mode
    the end of the worker is the clean-up."""
    if runtime.subprocess_mode:
        _log.debug("subprocess mode: the worker's end is the clean-up")
    elif idle and runtime.frees_vram_on_idle:
        await runtime.runner.clear()


async def unload_external_models(runtime: Runtime) -> None:
    """Ask the configured neighbours on the GPU (Ollama, llama-swap) to unload; never raises. In
    subprocess mode admission does that, when memory is really short."""
    if neighbours.configured_neighbours(runtime.settings):
        await neighbours.unload_external_models(runtime.settings)


# ---- the app ------------------------------------------------------------------------------


def create_app(settings: DoclingServeSettings | None = None) -> FastAPI:
    """Put the server together. Without ``settings`` the shared ones are used.

    Raises:
        ValueError: the settings ask for something this server cannot do.
        ConnectionError: what the engine works with cannot be reached.
    """
    settings = settings or shared.docling_serve_settings
    configure_logging(log_level(settings), settings.log_format.value)
    for unknown in find_unknown_settings(settings):
        _log.warning("%s", unknown)
    require_engine(settings)
    runtime = Runtime.decide(settings, runs_tasks=settings.eng_kind is AsyncEngine.LOCAL)
    _enter_mode(runtime)
    return _build(runtime)


def _enter_mode(runtime: Runtime) -> None:
    """Say what the mode is, and leave out torch where it is not needed."""
    if runtime.runs_tasks:
        mode = "on" if runtime.subprocess_mode else "off"
        _log.info("subprocess mode is %s (%s)", mode, runtime.reason)
    if runtime.keeps_light:
        defer(TABLES)
        if not leave_out_torch():
            _log.warning("torch was imported before the app was made, so this process stays large")


@gc_paused()
def _build(runtime: Runtime) -> FastAPI:
    # Only now: these import docling, which must not find torch when it is to be left out.
    from docling_serve import api  # noqa: PLC0415
    from docling_serve.policy import ServicePolicy  # noqa: PLC0415

    policy = ServicePolicy.from_settings(runtime.settings)
    return api.make_app(runtime.settings, policy, functools.partial(_lifespan, runtime, policy))


@asynccontextmanager
async def _lifespan(runtime: Runtime, policy: ServicePolicy, app: FastAPI) -> AsyncIterator[None]:
    from docling_serve.api.services import Services  # noqa: PLC0415
    from docling_serve.engines.callbacks import CallbackDelivery, CallbackRules  # noqa: PLC0415
    from docling_serve.engines.local.journal import Journal  # noqa: PLC0415

    settings = runtime.settings
    scratch = await asyncio.to_thread(_scratch, runtime)
    journal = await asyncio.to_thread(Journal.open, scratch.journal, durable=runtime.keeps_tasks)
    ledger = journal if runtime.keeps_tasks else None
    callbacks = CallbackDelivery(CallbackRules.from_settings(settings), ledger)
    await callbacks.resume()

    parts = EngineParts(
        gate=functools.partial(process_task_with_vram_management, runtime=runtime),
        pooled=runtime.subprocess_mode,
        keep=runtime.keeps_tasks,
        folders=scratch.tasks,
        journal=journal,
        clear_converters=runtime.runner.clear,
        on_callback=callbacks.send,
    )
    engine = make_engine(settings, parts)
    await engine.recover()
    set_current_engine(engine)
    pool = runtime.pool
    if pool is not None:
        share_worker_pool(pool)
    services = Services(
        settings, policy, engine, describe_workers=pool.describe if pool is not None else None
    )
    app.state.services = services
    shutdown = Shutdown(
        begin=lambda: _begin_shutdown(runtime, engine, services),
        at_once=runtime.runner.kill,
        hurry=engine.cancel_running,
    )
    with shutdown.listening():
        queue = asyncio.create_task(_supervise_queue(engine, services.readiness))
        starting = asyncio.create_task(_get_ready(runtime, services.readiness))
        try:
            yield
        except BaseException:
            # uvicorn was told twice and left: asyncio cancels all, the guardian removes the rest.
            shutdown.at_once()
            raise
        else:
            _begin_shutdown(runtime, engine, services)
            starting.cancel()
            # Told twice to end, it waits for nothing; whoever is told now cancels what still runs.
            await engine.finish_running(0 if shutdown.hurried else settings.shutdown_grace)
            await engine.close()
            queue.cancel()
            set_current_engine(None)
            await runtime.runner.close()
            await callbacks.close(within_s=0 if shutdown.hurried else settings.shutdown_grace)
            await journal.close()
            scratch.release()
            runtime.guardian.dismiss()


def _scratch(runtime: Runtime) -> Scratch | KeptScratch:
    """The configured folder for tasks that outlive this process, else one of its own."""
    path = runtime.settings.scratch_path
    if path is not None and runtime.keeps_tasks:
        return KeptScratch(path, runtime.guardian)
    return Scratch(path, runtime.guardian)


def _begin_shutdown(runtime: Runtime, engine: Engine, services: Services) -> None:
    """At the first sign of the end: refuse, wake who waits, let what runs finish."""
    if services.readiness.shutting_down:
        return
    services.readiness.shutting_down = True
    _log.info(
        "shutting down: no new tasks; %g s for those that run", runtime.settings.shutdown_grace
    )
    engine.drain()
    runtime.runner.drain()
    # Requests that wait for a running task keep the server open, so its time is bounded here and
    # not in the lifespan, which only ends after the last request.
    grace_s = runtime.settings.shutdown_grace
    loop = asyncio.get_running_loop()
    loop.call_later(grace_s, engine.cancel_running)
    # Streams go on while their task may still finish here.
    loop.call_later(grace_s if runtime.runs_tasks else 0, services.stopping.set)


async def _get_ready(runtime: Runtime, readiness: Readiness) -> None:
    """In the background; a server that could not get ready still does what it can at need."""
    try:
        await _start_mode(runtime, readiness)
    except ShuttingDown:
        _log.info("told to end before it was ready")
    except Exception:  # noqa: BLE001 - the log must have it now, not when the server ends
        _log.exception("no worker is ready before the first task")


async def _start_mode(runtime: Runtime, readiness: Readiness) -> None:
    """Get ready for tasks: standby workers, or models in this process."""
    if not runtime.runs_tasks:
        return
    if runtime.subprocess_mode:
        await asyncio.gather(ensure_models_loaded(runtime), runtime.runner.warm_up())
    elif runtime.settings.load_models_at_boot and not runtime.frees_vram_on_idle:
        readiness.models_pending = True
        try:
            await ensure_models_loaded(runtime)
        except Exception as exc:  # noqa: BLE001
            # Documents that need no models still convert; the probe says why others will not.
            _log.exception("the models could not be loaded")
            readiness.models_error = str(exc)
        readiness.models_pending = False


async def _supervise_queue(engine: Engine, readiness: Readiness) -> None:
    """Run the queue; its death is visible to the probes."""
    try:
        await engine.process_queue()
    except Exception:  # noqa: BLE001 - whatever it was, the probes must see it
        _log.exception("the queue stopped")
        readiness.queue_failed = True


# ---- the worker of the rq engine ----------------------------------------------------------


def run_rq_worker(settings: DoclingServeSettings | None = None) -> int:
    """Run the jobs that gateways put into Redis, until told to stop; returns the exit code.

    Raises:
        ConnectionError: Redis cannot be reached.
    """
    from docling_serve.engines.redis.reach import require_redis  # noqa: PLC0415 - not for others

    settings = settings or shared.docling_serve_settings
    configure_logging(log_level(settings), settings.log_format.value)
    for unknown in find_unknown_settings(settings):
        _log.warning("%s", unknown)
    require_redis(settings.eng_rq_redis_url)
    runtime = Runtime.decide(settings, for_workers=_with_one_worker)
    _enter_mode(runtime)
    from docling_serve.api.services import Readiness  # noqa: PLC0415
    from docling_serve.engines.rq.worker import RqWorkerProcess, WorkerParts  # noqa: PLC0415

    parts = WorkerParts(
        gate=functools.partial(process_task_with_vram_management, runtime=runtime),
        isolated=runtime.subprocess_mode,
        prepare=lambda: _start_mode(runtime, Readiness()),
        runner=runtime.runner,
        guardian=runtime.guardian,
    )
    return RqWorkerProcess(settings, parts).run()


def _with_one_worker(settings: DoclingServeSettings) -> DoclingServeSettings:
    """An rq-worker has one task at a time. Its pool does not see that another waits in Redis, so
    the worker process stays for the moment that taking the next job takes."""
    changes: dict[str, object] = {"subprocess_max_workers": 1}
    if settings.frees_vram_on_idle(True):
        changes |= {"free_vram_on_idle": False, "subprocess_idle_timeout": _BETWEEN_JOBS_S}
    return settings.model_copy(update=changes)
