"""What gateways and workers store in Redis for each other, and the messages they exchange there.

Names and formats are those of docling-jobkit's ``rq`` orchestrator and worker, so that servers of
both kinds share a queue. Ours add one hash per task, the details, and optional fields to the
messages; other servers ignore both.

===================================  =========================================================
``docling:tasks:<id>:metadata``      the task as JSON, written by the gateway that accepted it
``docling:tasks:<id>:detail``        hash of ours, with the fields below
``<eng_rq_results_prefix>:<id>``     msgpack of a ``DoclingTaskResult``
``docling:job:alive:<id>``           there while a worker lives that has the job
``<eng_rq_sub_channel>``             channel of :class:`TaskUpdate` messages as JSON
``rq:...``                           jobs, queues and registries of RQ
===================================  =========================================================

Read from docling-jobkit 3.9.1 (``docling_jobkit.orchestrators.rq``).
Guarded by tests/unit/internals/test_jobkit_rq.py.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timezone
from typing import Any

import msgpack
from docling_jobkit.datamodel.result import DoclingTaskResult
from docling_jobkit.orchestrators.rq.orchestrator import (
    _TASK_METADATA_PREFIX,
    RQOrchestratorConfig,
    _TaskUpdate,
)
from pydantic import TypeAdapter
from redis.asyncio.client import Pipeline

from docling_serve.errors import Failure
from docling_serve.jobs.spec import JobProgress, JobResult
from docling_serve.settings import DoclingServeSettings

JOB_FUNCTION = "docling_jobkit.orchestrators.rq.worker.docling_task"
CLEAR_FUNCTION = "docling_jobkit.orchestrators.rq.worker.clear_cache_task"

#: Fields of a task's details.
FAILURE, PROGRESS, RESULT, ENDED_AT = "failure", "progress", "result", "ended_at"
#: How many workers were lost with the task; the worker that has it stops when this changes.
LOSSES = "losses"
#: The same, set by a gateway: the result was fetched, so the task is to be forgotten.
FETCHED, DELETED = "fetched", "deleted"

#: A command to one worker on its own RQ channel; RQ's workers ignore unknown commands.
CLEAR_COMMAND = "clear-converters"

_FAILURES: TypeAdapter[Failure] = TypeAdapter(Failure)


class TaskUpdate(_TaskUpdate):
    """jobkit's message about a task, with the fields that it leaves out."""

    failure: Failure | None = None
    progress: JobProgress | None = None


def metadata_key(task_id: str) -> str:
    """Where the task is kept as JSON."""
    return f"{_TASK_METADATA_PREFIX}{task_id}:metadata"


def detail_key(task_id: str) -> str:
    """Where the details that jobkit has no place for are kept."""
    return f"{_TASK_METADATA_PREFIX}{task_id}:detail"


def all_metadata_keys() -> str:
    """A pattern that matches the metadata of every task."""
    return metadata_key("*")


def task_id_of(metadata: str) -> str:
    """The task whose metadata is kept under this key."""
    return metadata.removeprefix(_TASK_METADATA_PREFIX).removesuffix(":metadata")


def result_key(config: RQOrchestratorConfig, task_id: str) -> str:
    """Where the result of a task is kept."""
    return f"{config.results_prefix}:{task_id}"


def heartbeat_key(config: RQOrchestratorConfig, task_id: str) -> str:
    """The key that exists while a worker that runs the task lives."""
    return f"{config.heartbeat_key_prefix}:{task_id}"


def detail_ttl_s(config: RQOrchestratorConfig) -> int:
    """How long details are kept: as long as the job, however it ended."""
    return max(config.results_ttl, config.failure_ttl)


def dump_failure(failure: Failure) -> str:
    """A failure as JSON."""
    return json.dumps(dataclasses.asdict(failure))


def note_failure(
    pipe: Pipeline, config: RQOrchestratorConfig, task_id: str, failure: Failure
) -> None:
    """Permanently fail a task with ``pipe``; its first reply says whether this failure is the
    first."""
    pipe.hsetnx(detail_key(task_id), FAILURE, dump_failure(failure))
    _note_end(pipe, config, task_id)


def load_failure(text: bytes | str) -> Failure:
    """The failure that :func:`dump_failure` wrote."""
    return _FAILURES.validate_json(text)


def note_counts(
    pipe: Pipeline, config: RQOrchestratorConfig, task_id: str, result: JobResult
) -> None:
    """Make ``pipe`` write what a finished job did."""
    pipe.hset(detail_key(task_id), RESULT, result.model_dump_json())
    _note_end(pipe, config, task_id)


def _note_end(pipe: Pipeline, config: RQOrchestratorConfig, task_id: str) -> None:
    """RQ records the time a little later, and the metadata only for tasks that were closed."""
    pipe.hsetnx(detail_key(task_id), ENDED_AT, datetime.now(timezone.utc).isoformat())
    pipe.expire(detail_key(task_id), detail_ttl_s(config))


def orchestrator_config(settings: DoclingServeSettings) -> RQOrchestratorConfig:
    """jobkit's configuration for these settings. Gateways use the first of the queues."""
    names: dict[str, Any] = {
        "queue_name": settings.eng_rq_queue_names[0],
        "result_removal_delay": int(settings.result_removal_delay),
        "debug_error_details": settings.debug_error_details,
        "allow_external_plugins": settings.allow_external_plugins,
    }
    for name in RQOrchestratorConfig.model_fields:
        if hasattr(settings, f"eng_rq_{name}") and name not in names:
            names[name] = getattr(settings, f"eng_rq_{name}")
    return RQOrchestratorConfig.model_validate(names)


def unpacked(packed: bytes) -> DoclingTaskResult:
    """The result that a worker stored. Blocks."""
    data = msgpack.unpackb(packed, raw=False, strict_map_key=False)
    return DoclingTaskResult.model_validate(data)
