"""The composition root: assembles the server, and offers calls for code outside it.

Importing this module configures nothing; :func:`create_app` reads the settings, decides the mode
and puts the parts together; the app's lifespan starts and stops them.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

import docling_serve.settings as shared
from docling_serve.errors import ShuttingDown, TaskNotTransferable
from docling_serve.jobs.needs import may_need_models
from docling_serve.jobs.run_request import RunRequest
from docling_serve.jobs.spec import TaskFolder
from docling_serve.jobs.writing import finish_in_thread
from docling_serve.observability.load import GpuMemory
from docling_serve.observability.logging import configure_logging
from docling_serve.orchestrator_factory import (
    EngineParts,
    RayParts,
    make_engine,
    require_engine,
    set_current_engine,
)
from docling_serve.process.imports import gc_paused
from docling_serve.process.shutdown import Shutdown
from docling_serve.ray_processes import compose_task_actor, prepare_dispatcher
from docling_serve.running.entering import enter_mode
from docling_serve.running.gate import (
    clear_models,
    load_models,
    run_request,
    unload_external_models,
)
from docling_serve.running.runtime import Runtime, log_level
from docling_serve.settings import AsyncEngine, DoclingServeSettings, find_unknown_settings
from docling_serve.settings.converter_config import converter_config
from docling_serve.storage import KeptScratch, Scratch, kept_results_in, uploads_in
from docling_serve.subprocess_worker import share_worker_pool
from docling_serve.vram.background import read_in_background
from docling_serve.vram.mode import decide_mode
from docling_serve.vram.nvml import GpuProbe

if TYPE_CHECKING:
    from docling_jobkit.datamodel.task import Task

    from docling_serve.api.services import Readiness, Services
    from docling_serve.api.uploaded_files import UploadedFiles
    from docling_serve.engines.local.journal import Journal
    from docling_serve.orchestrator_factory import Engine
    from docling_serve.policy import ServicePolicy

_log = logging.getLogger(__name__)


# ---- for code outside the server ----------------------------------------------------------


async def process_task_with_vram_management(orchestrator: Engine, task: Task) -> dict[str, Any]:
    """Run ``task``, whose documents are its sources, in a worker process or in a thread of this
    one, as the mode says. ``orchestrator`` does not run it; it only says whether other tasks wait.

    Returns:
        The fields of ``JobResult``, and ``folder``: a temporary one, which the caller removes.

    Raises:
        TaskFailed: the task ended without a result; the failure says why.
        TaskNotTransferable: part of the task is not plain data, or it has no documents.
    """
    from docling_serve.jobs.flat_task import TASK_FIELDS, stage_task  # noqa: PLC0415 - imports docling

    if not task.sources:
        raise TaskNotTransferable("sources", "the task has no documents")
    runtime = _runtime_of_process()
    folder = TaskFolder(Path(tempfile.mkdtemp(prefix="docling-task-")))
    try:
        fields = {name: getattr(task, name) for name in TASK_FIELDS if hasattr(task, name)}
        config = converter_config(runtime.settings)
        spec = await finish_in_thread(stage_task, fields, folder, converter_config=config)
        light = not await asyncio.to_thread(may_need_models, spec, folder)
        waiting = await orchestrator.queue_size()
        result = await run_request(
            RunRequest(spec, folder, light, waiting=lambda: waiting), runtime
        )
    except BaseException:
        folder.remove()
        raise
    return {**result.model_dump(), "folder": str(folder.root)}


async def ensure_models_loaded(orchestrator: Engine) -> None:
    """Load the default models into this process; in subprocess mode the workers load them.
    ``orchestrator`` is not used: the process that converts holds the models."""
    del orchestrator
    runtime = _runtime_of_process()
    if not runtime.subprocess_mode:
        await unload_external_models(runtime)
    await load_models(runtime)


async def cleanup_models_if_needed(orchestrator: Engine) -> None:
    """Drop the models in this process if ``free_vram_on_idle`` is on and no task of
    ``orchestrator`` waits; in subprocess mode the worker's exit is the clean-up."""
    await clear_models(_runtime_of_process(), idle=await orchestrator.queue_size() == 0)


def should_use_subprocess() -> bool:
    """Whether the settings, and for ``auto`` the size of the GPU, ask for worker processes."""
    setting = shared.docling_serve_settings.use_subprocess_for_ocr
    return decide_mode(setting, GpuProbe()).enabled


class _Process:
    """A holder, so that a server can install its runtime here and remove it again."""

    runtime: Runtime | None = None


def _runtime_of_process() -> Runtime:
    """The server's runtime. Outside a server, one for the shared settings; its workers end with
    ``close_worker_pool`` or with this process."""
    runtime = _Process.runtime
    if runtime is None or (runtime.pool is not None and runtime.pool.closed):
        runtime = _Process.runtime = Runtime.decide(shared.docling_serve_settings)
        if runtime.pool is not None:
            share_worker_pool(runtime.pool)
    return runtime


# ---- the app ------------------------------------------------------------------------------


def create_app(settings: DoclingServeSettings | None = None) -> FastAPI:
    """Assemble the server. Without ``settings``, use the shared ones.

    Raises:
        ValueError: the settings ask for something this server cannot do.
        ConnectionError: a service that the engine depends on cannot be reached.
    """
    settings = settings or shared.docling_serve_settings
    configure_logging(log_level(settings), settings.log_format.value)
    for unknown in find_unknown_settings(settings):
        _log.warning("%s", unknown)
    require_engine(settings)
    runtime = Runtime.decide(settings, runs_tasks=settings.eng_kind is AsyncEngine.LOCAL)
    enter_mode(runtime)
    return _build(runtime)


@gc_paused()
def _build(runtime: Runtime) -> FastAPI:
    # Not earlier: these import docling, which must not find torch when it is to be left out.
    from docling_serve import api  # noqa: PLC0415
    from docling_serve.policy import ServicePolicy  # noqa: PLC0415

    policy = ServicePolicy.from_settings(runtime.settings)
    return api.make_app(runtime.settings, policy, functools.partial(_lifespan, runtime, policy))


@asynccontextmanager
async def _lifespan(runtime: Runtime, policy: ServicePolicy, app: FastAPI) -> AsyncIterator[None]:
    from docling_serve.api.uploaded_files import UploadedFiles  # noqa: PLC0415
    from docling_serve.callbacks.delivery import CallbackDelivery, CallbackRules  # noqa: PLC0415

    settings = runtime.settings
    scratch = await asyncio.to_thread(_scratch, runtime)
    journal = await _journal(scratch)
    rules = CallbackRules.from_settings(settings)
    callbacks = CallbackDelivery(rules, journal if runtime.keeps_tasks else None)
    await callbacks.resume()

    parts = EngineParts(
        gate=functools.partial(run_request, runtime=runtime),
        pooled=runtime.subprocess_mode,
        keep=runtime.keeps_tasks,
        folders=scratch.tasks,
        cache_folder=kept_results_in(scratch.path),
        journal=journal,
        clear_converters=runtime.runner.clear,
        on_callback=callbacks.send,
        ray=RayParts(compose_task_actor, prepare_dispatcher),
    )
    engine = make_engine(settings, parts)
    await engine.recover()
    _share(runtime, engine)
    files = await asyncio.to_thread(UploadedFiles.of, settings, uploads_in(scratch.path))
    services = _services(runtime, policy, engine, files)
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
            # uvicorn left at a second signal: asyncio cancels all, the guardian does the rest.
            shutdown.at_once()
            raise
        else:
            _begin_shutdown(runtime, engine, services)
            starting.cancel()
            # After a second signal it does not wait; one during the wait cancels what still runs.
            await engine.finish_running(0 if shutdown.hurried else settings.shutdown_grace)
            await engine.close()
            queue.cancel()
            set_current_engine(None)
            _Process.runtime = None
            await runtime.runner.close()
            await callbacks.close(within_s=0 if shutdown.hurried else settings.shutdown_grace)
            await journal.close()
            await asyncio.to_thread(files.close)  # before another server may lock the folder
            scratch.release()
            runtime.guardian.dismiss()


def _share(runtime: Runtime, engine: Engine) -> None:
    """Make the calls for code outside the server use the parts of this server."""
    set_current_engine(engine)
    if runtime.pool is not None:
        share_worker_pool(runtime.pool)
    _Process.runtime = runtime


def _scratch(runtime: Runtime) -> Scratch | KeptScratch:
    """The configured folder for tasks that outlive this process, else a private one."""
    path = runtime.settings.scratch_path
    scratch: Scratch | KeptScratch
    if path is not None and runtime.keeps_tasks:
        scratch = KeptScratch(path, runtime.guardian)
    else:
        scratch = Scratch(path, runtime.guardian)
    runtime.runner.work_in(scratch.workers)
    return scratch


def _services(
    runtime: Runtime, policy: ServicePolicy, engine: Engine, files: UploadedFiles
) -> Services:
    from docling_serve.api.services import Services  # noqa: PLC0415
    from docling_serve.engines.base import KnowsWorkers  # noqa: PLC0415

    pool = runtime.pool
    if pool is None:
        services = Services(runtime.settings, policy, engine, files, workers_here=False)
        if isinstance(engine, KnowsWorkers):
            services.describe_workers = engine.describe_workers
            services.stop_worker = engine.stop_worker
        return services
    return Services(
        runtime.settings,
        policy,
        engine,
        files,
        describe_workers=pool.describe,
        stop_worker=pool.stop_worker,
        read_gpus=functools.partial(_read_gpus, runtime),
    )


async def _read_gpus(runtime: Runtime) -> list[GpuMemory]:
    """For metrics: empty when the driver does not answer in time."""
    reading = await read_in_background(runtime.probe, max_age_s=1.0, limit_s=1.0)
    return [GpuMemory(gpu.uuid, gpu.total_bytes, gpu.used_bytes) for gpu in reading.devices]


async def _journal(scratch: Scratch | KeptScratch) -> Journal:
    from docling_serve.engines.local.journal import Journal  # noqa: PLC0415

    if isinstance(scratch, KeptScratch):
        return await asyncio.to_thread(Journal.open, scratch.journal, durable=True)
    return Journal.in_memory()  # no later server reads it


def _begin_shutdown(runtime: Runtime, engine: Engine, services: Services) -> None:
    """At the first signal: refuse new tasks, wake waiting requests, let running tasks finish."""
    if services.readiness.shutting_down:
        return
    services.readiness.shutting_down = True
    _log.info(
        "shutting down: no new tasks are accepted; running ones have %g s to finish",
        runtime.settings.shutdown_grace,
    )
    engine.drain()
    runtime.runner.drain()
    # Requests that wait for a running task keep the server open. So its time is bounded here and
    # not in the lifespan, which ends only after the last request.
    grace_s = runtime.settings.shutdown_grace
    loop = asyncio.get_running_loop()
    loop.call_later(grace_s, engine.cancel_running)
    # Streams continue while their task may still finish here.
    loop.call_later(grace_s if runtime.runs_tasks else 0, services.stopping.set)


async def _get_ready(runtime: Runtime, readiness: Readiness) -> None:
    """Runs in the background. A server that fails to get ready still starts things on demand."""
    try:
        await start_mode(runtime, readiness)
    except ShuttingDown:
        _log.info("shutdown was requested before the server was ready")
    except Exception:  # noqa: BLE001 - the log must have it now, not when the server ends
        _log.exception("workers or models could not be prepared before the first task")


async def start_mode(runtime: Runtime, readiness: Readiness) -> None:
    """Get ready for tasks: standby workers, or models in this process."""
    if not runtime.runs_tasks:
        return
    if runtime.subprocess_mode:
        await asyncio.gather(load_models(runtime), runtime.runner.warm_up())
    elif runtime.settings.load_models_at_boot and not runtime.frees_vram_on_idle:
        readiness.models_pending = True
        try:
            await load_models(runtime)
        except Exception as exc:  # noqa: BLE001
            # Documents that need no models still convert; the probe says why others fail.
            _log.exception("the models could not be loaded")
            readiness.models_error = str(exc)
        readiness.models_pending = False


async def _supervise_queue(engine: Engine, readiness: Readiness) -> None:
    """Run the queue; the probes see it if the queue dies."""
    try:
        await engine.process_queue()
    except Exception:  # noqa: BLE001 - whatever it was, the probes must see it
        _log.exception("the queue processor stopped")
        readiness.queue_failed = True
