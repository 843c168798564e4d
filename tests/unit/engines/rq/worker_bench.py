"""A worker's task runner on a real Redis, and a look at what it does there."""

from __future__ import annotations

import asyncio
import base64
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import redis.asyncio
from docling_jobkit.orchestrators.rq.orchestrator import RQOrchestratorConfig

from docling_serve.callbacks.delivery import CallbackDelivery
from docling_serve.engines.redis.task_runner import Liveness, TaskRunner, TaskSetup
from docling_serve.engines.rq.task_records import RqTaskRecords
from docling_serve.errors import Failure, TaskFailed
from docling_serve.internals import jobkit_rq
from docling_serve.jobs.run_request import Gate, RunRequest
from docling_serve.jobs.spec import JobResult
from tests.helpers.loops import PATIENCE_S
from tests.helpers.rq_engines import rq_settings

FAILURE = Failure("timeout", "too slow", details={"limit": "subprocess_timeout"})


RESULT = JobResult(
    body="result.body", media_type="application/msgpack", processing_time=1.0, num_converted=1
)


def task_data(task_id: str = "t", **changes: Any) -> dict[str, Any]:
    """A task as a gateway queues it."""
    text = base64.b64encode(b"# T").decode()
    source = {"kind": "file", "base64_string": text, "filename": "dir/t.md"}
    return {
        "task_id": task_id,
        "task_type": "convert",
        "sources": [source],
        "targets": [{"kind": "inbody"}],
        "convert_options": {"to_formats": ["md"]},
        **changes,
    }


async def converts(request: RunRequest) -> JobResult:
    """A gate that has the task converted."""
    request.folder.body.write_bytes(b"packed")
    return RESULT


async def hangs(request: RunRequest) -> JobResult:
    """A gate whose task never ends by itself."""
    request.listeners.on_started()
    await asyncio.Event().wait()
    return RESULT


async def fails(request: RunRequest) -> JobResult:
    """A gate whose worker says why there is no result."""
    raise TaskFailed(FAILURE)


async def breaks(request: RunRequest) -> JobResult:
    """A gate with a fault of its own."""
    raise LookupError("/secret/path")


async def has_no_room(request: RunRequest) -> JobResult:
    """A gate whose disk is full."""
    raise OSError(errno.ENOSPC, "No space left on device")


class Messages:
    """What is published, as it comes."""

    def __init__(self, pubsub: Any) -> None:
        self._pubsub = pubsub

    async def next(self) -> jobkit_rq.TaskUpdate:
        while True:
            message = await self._pubsub.get_message(
                ignore_subscribe_messages=True, timeout=PATIENCE_S
            )
            if message is not None:
                return jobkit_rq.TaskUpdate.model_validate_json(message["data"])


class Bench:
    """A runner on Redis, and a look at what it does there."""

    def __init__(
        self, runner: TaskRunner, client: Any, messages: Messages, config: RQOrchestratorConfig
    ):
        self.runner = runner
        self.redis = client
        self.messages = messages
        self.config = config

    async def failure(self, task_id: str = "t") -> Failure:
        text = await self.redis.hget(jobkit_rq.detail_key(task_id), jobkit_rq.FAILURE)
        return jobkit_rq.load_failure(text)

    async def statuses(self, count: int) -> list[str]:
        return [(await self.messages.next()).task_status.value for _ in range(count)]


@asynccontextmanager
async def bench(
    url: str,
    folders: Path,
    gate: Gate,
    liveness: Liveness | None = None,
    delivery: CallbackDelivery | None = None,
) -> AsyncIterator[Bench]:
    client = redis.asyncio.Redis.from_url(url)
    config = jobkit_rq.orchestrator_config(rq_settings(url))
    setup = TaskSetup(
        folders=folders,
        converter_config={},
        presigned_config=None,
        debug_error_details=False,
        liveness=liveness or Liveness(beat_every_s=60.0, expires_s=7),
        waiting=lambda: 0,
    )
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(config.sub_channel)
        records = RqTaskRecords(client, client, config)
        runner = TaskRunner(gate, records, delivery or CallbackDelivery(), setup)
        yield Bench(runner, client, Messages(pubsub), config)
    await client.aclose()
    assert list(folders.iterdir()) == [], "no document is left"
