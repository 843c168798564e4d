"""Gateways and workers of the rq engine inside a test, on a real Redis."""

from __future__ import annotations

import asyncio
import io
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import redis
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.responses import (
    DoclingTaskResult,
    DocumentResultItem,
    ExportDocumentResponse,
)
from docling.datamodel.service.targets import InBodyTarget
from docling_core.types.doc.document import DoclingDocument
from docling_jobkit.orchestrators.rq.orchestrator import _TaskUpdate
from docling_jobkit.orchestrators.serialization import make_msgpack_safe
from rq.job import Job, JobStatus
from rq.results import Result

from docling_serve.engines.base import OnCallback, Submission, Upload
from docling_serve.engines.rq.engine import RqEngine
from docling_serve.engines.rq.reaper import ReaperTimes
from docling_serve.internals import jobkit_rq
from docling_serve.settings import DoclingServeSettings
from tests.helpers.loops import PATIENCE_S
from tests.helpers.rest_server import settings_of

TENANT = "default"


def rq_settings(url: str, **values: Any) -> DoclingServeSettings:
    """Settings of a gateway or worker on the Redis at ``url``."""
    return settings_of(eng_kind="rq", eng_rq_redis_url=url, **values)


@asynccontextmanager
async def gateway(
    url: str,
    reaper: ReaperTimes | None = None,
    on_callback: OnCallback = lambda *_: None,
    **settings: Any,
) -> AsyncIterator[RqEngine]:
    """An engine that follows what workers do."""
    engine = RqEngine(rq_settings(url, **settings), on_callback, reaper)
    following = asyncio.create_task(engine.process_queue())
    try:
        await asyncio.wait_for(engine.listener.listening.wait(), PATIENCE_S)
        yield engine
    finally:
        following.cancel()
        await asyncio.wait({following})
        await engine.close()


def markdown(text: str = "# T", **fields: Any) -> Submission:
    """One uploaded Markdown document."""
    return uploaded("t.md", text.encode(), **fields)


def uploaded(name: str, content: bytes, **fields: Any) -> Submission:
    """One uploaded document."""
    upload = Upload(name, io.BytesIO(content))
    return Submission([upload], ConvertDocumentsOptions(), [InBodyTarget()], **fields)


def packed_result(text: str = "done", *, with_json: bool = False) -> bytes:
    """What jobkit's worker stores for one document."""
    document = ExportDocumentResponse(
        filename="t.md",
        md_content=text,
        json_content=DoclingDocument(name="t") if with_json else None,
    )
    item = DocumentResultItem(document=document, status="success")
    result = DoclingTaskResult(
        result=item,
        processing_time=0.5,
        num_converted=1,
        num_succeeded=1,
        num_partially_succeeded=0,
        num_failed=0,
    )
    packed: bytes = msgpack.packb(make_msgpack_safe(result.model_dump()), use_bin_type=True)
    return packed


class JobkitWorker:
    """Does to Redis what jobkit's worker does, without converting anything."""

    def __init__(self, url: str, settings: DoclingServeSettings) -> None:
        self.redis: redis.Redis = redis.Redis.from_url(url)
        self.config = jobkit_rq.orchestrator_config(settings)

    def __enter__(self) -> JobkitWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.redis.close()

    def take(self) -> str:
        """Take the next job out of the queue and say so; returns the task's id."""
        taken = self.redis.lpop(f"rq:queue:{self.config.queue_name}")
        assert isinstance(taken, bytes)
        task_id = taken.decode()
        job = self.job(task_id)
        with self.redis.pipeline() as pipe:
            job.prepare_for_execution("jobkit-worker", pipe)
            pipe.zadd(job.started_job_registry.key, {f"{task_id}:1": 2**40})
            pipe.execute()
        self.tell(task_id, "started")
        return task_id

    def succeed(self, task_id: str, packed: bytes | None = None, *, silently: bool = False) -> None:
        """Store a result; tell of it, unless ``silently``."""
        key = jobkit_rq.result_key(self.config, task_id)
        self.redis.setex(key, 100, packed or packed_result())
        if not silently:
            self.tell(task_id, "success", result_key=key)
        done = Result.Type.SUCCESSFUL
        Result.create(self.job(task_id), done, ttl=100, return_value=key)
        self._close(task_id, JobStatus.FINISHED)

    def fail(self, task_id: str, message: str) -> None:
        """Tell of a failure; jobkit stores its reason nowhere."""
        self.tell(task_id, "failure", error_message=message)
        self._close(task_id, JobStatus.FAILED)

    def tell(self, task_id: str, status: str, **fields: Any) -> None:
        """Publish a message as jobkit does."""
        update = _TaskUpdate(task_id=task_id, task_status=status, **fields)
        self.redis.publish(self.config.sub_channel, update.model_dump_json())

    def job(self, task_id: str) -> Job:
        """RQ's job of a task."""
        return Job.fetch(task_id, connection=self.redis)

    def stored_job(self, task_id: str) -> bytes:
        """The job's data as Redis has it, unpacked."""
        data = self.redis.hget(Job.key_for(task_id), "data")
        assert isinstance(data, bytes)
        return zlib.decompress(data)

    def _close(self, task_id: str, status: JobStatus) -> None:
        job = self.job(task_id)
        job.set_status(status)
        self.redis.zrem(job.started_job_registry.key, f"{task_id}:1")


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    """Wait for something in Redis that nobody tells of."""
    while not await condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def heard(url: str, channel: str, act: Callable[[], Any], count: int = 1) -> list[bytes]:
    """The first ``count`` messages on ``channel`` after ``act`` was called and awaited."""
    client = redis.asyncio.Redis.from_url(url)
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(channel)
        await pubsub.get_message(timeout=PATIENCE_S)
        await act()
        messages = []
        while len(messages) < count:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=PATIENCE_S)
            assert message is not None, f"{len(messages)} of {count} messages"
            messages.append(message["data"])
    await client.aclose()
    return messages
