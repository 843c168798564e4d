"""Starts of processes and round trips through the worker pool, without a server.

Kept apart from the command line, so that forked workers import nothing costly with it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

from benchmarks.statistics import Spread, spread
from docling_serve.jobs.spec import JobResult, JobSpec, TaskFolder
from docling_serve.subprocess_worker import SubprocessWorkerPool, WorkerConfig, WorkerPoolConfig
from docling_serve.subprocess_worker.child.containment import contain
from docling_serve.subprocess_worker.child.main import ChildArguments, main
from docling_serve.subprocess_worker.pool.starter import ChildMain, Starter
from docling_serve.subprocess_worker.protocol.channel import WorkerChannel
from docling_serve.subprocess_worker.protocol.messages import Done, Ready, Run, Started

_STARTS = 20
_TRIPS = 500
_WARM_UP = 20


async def starts(count: int = _STARTS) -> Spread:
    """Seconds from the request for a worker until it is ready, real workers forked one by one."""
    taken = []
    async with _Pool(main) as pool:
        for _ in range(count + 1):
            started = time.perf_counter()
            await pool.prewarm(1)
            taken.append(time.perf_counter() - started)
            await pool.prewarm(0)
            while pool.workers():  # noqa: ASYNC110 - the pool does not report a worker's exit
                await asyncio.sleep(0.005)
    return spread(taken[1:])  # the first one waits for the template


async def trips(count: int = _TRIPS) -> Spread:
    """Seconds of a job that does nothing, from hand-over to reply."""
    taken = []
    with tempfile.TemporaryDirectory() as scratch:
        async with _Pool(no_op_worker) as pool:
            await pool.prewarm(1)
            for number in range(count + _WARM_UP):
                folder = TaskFolder.create(Path(scratch), f"task-{number}")
                folder.write_job(JobSpec(task_id=folder.root.name, sources=[]))
                started = time.perf_counter()
                await pool.run(folder, folder.root.name)
                taken.append(time.perf_counter() - started)
    return spread(taken[_WARM_UP:])


def no_op_worker(arguments: ChildArguments) -> None:
    """A worker that answers every job at once; containment and channel are the real ones."""
    contained = contain(parent_pid=arguments.parent_pid)
    channel = WorkerChannel(arguments.channel)
    channel.send(Ready(pid=os.getpid(), import_s=0.0, contained=contained))
    while isinstance(message := channel.receive(), Run):
        channel.send(Started(job=message.job))
        folder = TaskFolder(Path(message.folder))
        folder.read_job()
        folder.body.write_bytes(b"{}")
        result = JobResult(
            body=folder.body.name, media_type="application/json", processing_time=0.0
        )
        channel.send(Done(job=message.job, result=result, holds_models=False))
    os._exit(0)


class _Pool:
    """A pool of forked workers that run ``child``; they stay while they are used."""

    def __init__(self, child: ChildMain) -> None:
        worker = WorkerConfig(log_level="ERROR")
        config = WorkerPoolConfig(start_method="forkserver", worker=worker)
        self._pool = SubprocessWorkerPool(config=config, starter=Starter(config, child))

    async def __aenter__(self) -> SubprocessWorkerPool:
        await self._pool.start()
        return self._pool

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()
