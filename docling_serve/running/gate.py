"""The gate that every task passes: the steps around it that both modes share."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path

from docling_serve.errors import TaskFailed
from docling_serve.jobs.run_request import RunRequest
from docling_serve.jobs.spec import JobProgress, JobResult
from docling_serve.process.shared_weights import preload_models_mmap
from docling_serve.running.failure_place import with_place
from docling_serve.running.runtime import Runtime
from docling_serve.vram import neighbours

_log = logging.getLogger(__name__)


async def run_request(request: RunRequest, runtime: Runtime) -> JobResult:
    """Run one task in a worker process or in a thread of this one, as the mode says.

    Raises:
        TaskFailed: the task ended without a result; the failure names the document.
    """
    latest: JobProgress | None = None

    def on_progress(progress: JobProgress) -> None:
        nonlocal latest
        latest = progress
        request.listeners.on_progress(progress)

    watched = replace(request, listeners=replace(request.listeners, on_progress=on_progress))
    try:
        if runtime.subprocess_mode:
            result = await runtime.runner.run(watched)
        else:
            result = await _run_here(watched, runtime)
    except TaskFailed as exc:
        exc.failure = with_place(exc.failure, request.spec, latest)
        raise
    if result.onnx is not None and result.onnx.differs:
        _warn_once(result.onnx.asked, result.onnx.used, result.onnx.why)
    return result


@cache
def _warn_once(asked: str, used: str, why: str) -> None:
    _log.warning("ONNX Runtime was asked to run on %s and runs on %s: %s", asked, used, why)


async def _run_here(request: RunRequest, runtime: Runtime) -> JobResult:
    if not request.light:
        await unload_external_models(runtime)
    try:
        return await runtime.runner.run(request)
    finally:
        await clear_models(runtime, idle=request.waiting() == 0)


async def load_models(runtime: Runtime) -> None:
    """Load the default models into this process. In subprocess mode no models are loaded, but the
    weights in ``artifacts_path`` are read into the page cache, which all workers share."""
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
        stop.set()  # a thread cannot be cancelled, and must not delay the server's exit


async def clear_models(runtime: Runtime, *, idle: bool) -> None:
    """Drop loaded models when no task waits and memory is to be freed; in subprocess mode the
    worker's exit is the clean-up."""
    if runtime.subprocess_mode:
        _log.debug("subprocess mode: memory is freed when the worker exits")
    elif idle and runtime.frees_vram_on_idle:
        await runtime.runner.clear()


async def unload_external_models(runtime: Runtime) -> None:
    """Ask the configured neighbours on the GPU (Ollama, llama-swap) to unload; never raises. In
    subprocess mode admission does that, when memory is actually short."""
    if neighbours.configured_neighbours(runtime.settings):
        await neighbours.unload_external_models(runtime.settings)
