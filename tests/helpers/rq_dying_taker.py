"""A worker that is killed after it has taken a job and before it has registered it.

``COMMAND`` are the words that run it, before the address of Redis and the names of the queues.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import redis
from rq.executions import Execution
from rq.job import Job

from docling_serve.engines.rq.job_taker import JobTaker
from docling_serve.internals import jobkit_rq
from tests.helpers.rq_engines import rq_settings

#: Without torch, like an rq-worker, so that it starts sooner.
COMMAND = [
    sys.executable,
    "-c",
    "import sys; from docling_serve.process.imports import leave_out_torch; leave_out_torch();"
    " from tests.helpers.rq_dying_taker import main; main(*sys.argv[1:])",
]


class _Host:
    """A process that has nothing but the connection."""

    stopping = False
    arrivals = 0

    def __init__(self, url: str, queues: str) -> None:
        settings = rq_settings(url, eng_rq_queue_name=queues)
        self.config = jobkit_rq.orchestrator_config(settings)
        self.queue_names = settings.eng_rq_queue_names
        self.connection: redis.Redis = redis.Redis.from_url(url)


class _DyingTaker(JobTaker):
    def prepare_execution(self, job: Job) -> Execution:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError(f"alive, with {job.id}")


def main(url: str, queues: str) -> None:
    """Take one job, and die."""
    host: Any = _Host(url, queues)
    _DyingTaker(host).work(burst=True)
