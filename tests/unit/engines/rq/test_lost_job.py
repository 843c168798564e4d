"""A worker is killed between taking a job and registering it: the job waits again, and is run."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

import pytest
from rq import Queue

from docling_serve.engines.redis.lines import Lines, Takes
from docling_serve.engines.rq.engine import RqEngine
from docling_serve.engines.rq.reaper import ReaperTimes
from tests.helpers.rq_dying_taker import COMMAND
from tests.helpers.rq_engines import TENANT, JobkitWorker, gateway, markdown, until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

_ROOT = Path(__file__).parents[4]
_QUICK = ReaperTimes(look_every_s=0.02, missing_for_s=0.1)


async def test_a_worker_is_killed_with_a_job_that_it_has_not_registered(
    redis_url: str, worker: JobkitWorker
) -> None:
    queues = "convert,other"
    async with gateway(redis_url, _QUICK, eng_rq_queue_name=queues) as engine:
        task_id = (await engine.submit(markdown())).task_id
        killed = await asyncio.to_thread(_take_and_die, redis_url, queues)
        assert killed.returncode == -signal.SIGKILL, killed.stderr

        await until(lambda: _waits(engine, task_id))
        assert worker.redis.llen("rq:queue:convert:intermediate") == 0
        lines = Lines(worker.redis, [Queue("convert", connection=worker.redis)])
        taken = lines.take(Takes.HEAVY)
        assert taken is not None
        assert taken[0] == task_id, "a light job that is put back is anybody's"
        assert lines.registered(*taken)
        worker.succeed(task_id)
        assert (await engine.wait_finished(task_id, TENANT, 60)).status == "success"


async def _waits(engine: RqEngine, task_id: str) -> bool:
    view = await engine.view(task_id, TENANT)
    return bool(view.position == 1)


def _take_and_die(url: str, queues: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, url, queues]
    return subprocess.run(
        command, cwd=_ROOT, capture_output=True, text=True, timeout=300, check=False
    )
