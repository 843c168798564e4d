"""What a pool does when the event loop ends under it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from docling_serve.subprocess_worker import SubprocessWorkerPool
from docling_serve.subprocess_worker.pool.starter import Starter
from tests.helpers import scriptable_child
from tests.helpers.loops import LOOPS, PATIENCE_S, NewLoop
from tests.helpers.pools import ScriptedJob, pool_config
from tests.helpers.process_ends import has_ended


def cancel_everything(loop: asyncio.AbstractEventLoop) -> None:
    """What asyncio.run does at its end."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=PATIENCE_S))


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
def test_an_event_loop_that_ends_waits_for_no_job(new_loop: NewLoop, tmp_path: Path) -> None:
    """asyncio cancels every task then, also those that see workers to their end."""
    config = pool_config(prewarm=1, retries=1)
    starter = Starter(config, scriptable_child.main)
    pool = SubprocessWorkerPool(config=config, starter=starter)
    job = ScriptedJob.make(tmp_path, do="hang")

    async def work() -> asyncio.Task[Any]:
        await pool.prewarm()
        running = job.begin(pool)
        await job.introduced.wait()
        pool.drain()
        return running

    loop = new_loop()
    try:
        running = loop.run_until_complete(work())
        cancel_everything(loop)
        assert running.done()
        assert has_ended(job.pid)
        assert pool.workers() == []
    finally:
        pool.kill_all()
        starter.close()
        cancel_everything(loop)  # what the first cancellation began
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
