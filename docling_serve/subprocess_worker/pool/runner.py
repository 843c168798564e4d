"""Whole tasks in the worker pool: each is one job, or several where a long PDF is cut up."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from docling_serve.errors import TaskFailed, TaskTimedOut
from docling_serve.jobs.needs import may_need_models, model_kind
from docling_serve.jobs.run_request import NO_LISTENERS, Listeners, RunRequest
from docling_serve.jobs.spec import JobProgress, JobResult, JobSpec, TaskFolder
from docling_serve.jobs.writing import finish_in_thread
from docling_serve.subprocess_worker.pool.page_fanout import PageFanOut, may_fan_out
from docling_serve.subprocess_worker.pool.pool import (
    DEFAULT_TIMEOUT_S,
    SubprocessWorkerPool,
    close_worker_pool,
    get_worker_pool,
)


class PoolRunner:
    """Runs tasks in ``pool``, each for ``timeout_s`` seconds at most.

    Without ``tells_log`` a failure omits the last lines that its worker printed, which may contain
    paths of this machine.
    """

    def __init__(
        self, pool: SubprocessWorkerPool, timeout_s: float, *, tells_log: bool = True
    ) -> None:
        self.pool = pool
        self._timeout_s = timeout_s
        self._tells_log = tells_log

    async def run(self, request: RunRequest) -> JobResult:
        """Run a task in one worker, or in several.

        Raises:
            TaskFailed: as for :meth:`SubprocessWorkerPool.run`, like the other errors.
        """
        try:
            return await run_task(self.pool, request, self._timeout_s)
        except TaskFailed as exc:
            if not self._tells_log:
                details = {k: v for k, v in exc.failure.details.items() if k != "worker_log"}
                exc.failure = replace(exc.failure, details=details)
            raise

    def work_in(self, folder: Path) -> None:
        """Make workers find their jobs below ``folder``."""
        self.pool.work_in(folder)

    async def warm_up(self) -> None:
        """Start the standby processes."""
        await self.pool.start()

    async def clear(self) -> None:
        """Drop the models of every worker."""
        await self.pool.clear()

    def drain(self) -> None:
        """Start no further tasks."""
        self.pool.drain()

    async def close(self) -> None:
        """End every worker."""
        await close_worker_pool(pool=self.pool)

    def kill(self) -> None:
        """SIGKILL every worker."""
        self.pool.kill_all()


async def run_task(pool: SubprocessWorkerPool, request: RunRequest, timeout_s: float) -> JobResult:
    """Run a task in ``pool``; raises what :meth:`SubprocessWorkerPool.run` raises."""
    spec = request.spec
    if pool.config.fans_out and may_fan_out(spec):
        with pool.more_coming():
            return await PageFanOut(request, timeout_s, pool.run, pool.config).convert()
    setting, light_s = "subprocess_timeout", pool.config.light_timeout_s * max(1, len(spec.sources))
    if request.light and 0 < light_s < timeout_s:
        setting, timeout_s = "subprocess_light_timeout", light_s
    return await pool.run(
        request.folder,
        spec.task_id,
        timeout_s,
        light=request.light,
        kind=model_kind(spec),
        timeout_setting=setting,
        listeners=request.listeners,
        spec=spec,
    )


async def process_in_subprocess(
    task_dict: dict[str, Any],
    timeout: float = DEFAULT_TIMEOUT_S,
    *,
    folder: Path | None = None,
    pool: SubprocessWorkerPool | None = None,
    on_started: Callable[[], None] = NO_LISTENERS.on_started,
    on_progress: Callable[[JobProgress], None] = NO_LISTENERS.on_progress,
    on_callback: Callable[[dict[str, Any]], None] = NO_LISTENERS.on_callback,
) -> dict[str, Any]:
    """Run one task in a worker process, for code outside the server.

    ``task_dict`` has ``task_id``, ``sources`` and ``convert_options``, as in docling-jobkit's
    ``Task``, and optionally settings of the converter, which take precedence over those of the
    pool. Alternatively it is plain data in the fields of :class:`docling_serve.jobs.spec.JobSpec`.
    ``folder`` is the task's scratch folder: paths of staged documents are relative to it, and the
    reply is left there. Without one a temporary folder is made, which the caller removes.

    Returns:
        ``{"status": "success", "results": {...}}`` with the fields of ``JobResult`` and
        ``folder``, or ``{"status": "error", "error": {...}}`` with the fields of ``Failure``.

    Raises:
        TaskNotTransferable: ``task_dict`` cannot be handed over; names the field.
        TaskTimedOut: the task was stopped at ``timeout`` seconds.
        ShuttingDown: the pool is closed.
        OSError: the job could not be written; the disk is full.
    """
    pool = pool or get_worker_pool()
    root = Path(tempfile.mkdtemp(prefix="docling-task-")) if folder is None else folder
    task_folder = TaskFolder(root)
    try:
        spec = await finish_in_thread(_stage, task_dict, task_folder, pool)
        light = not await asyncio.to_thread(may_need_models, spec, task_folder)
        listeners = Listeners(on_started, on_progress, on_callback)
        request = RunRequest(spec, task_folder, light, listeners)
        result = await run_task(pool, request, timeout)
    except BaseException as exc:
        if folder is None:
            shutil.rmtree(root, ignore_errors=True)
        if isinstance(exc, TaskFailed) and not isinstance(exc, TaskTimedOut):
            return {"status": "error", "error": vars(exc.failure)}
        raise
    return {"status": "success", "results": {**result.model_dump(), "folder": str(root)}}


def _stage(task_dict: dict[str, Any], folder: TaskFolder, pool: SubprocessWorkerPool) -> JobSpec:
    # Imported late: workers import this package, too, and do without the settings that it loads.
    from docling_serve.jobs.flat_task import converter_settings, is_flat, stage_task  # noqa: PLC0415

    if is_flat(task_dict):
        config = pool.config.worker.converter_config | converter_settings(task_dict)
        return stage_task(task_dict, folder, converter_config=config)
    spec = JobSpec.from_task_dict(task_dict)
    folder.write_job(spec)
    return spec
