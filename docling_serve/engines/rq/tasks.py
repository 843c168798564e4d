"""A task on its way into a job, and its result on the way out. All of it blocks: use a thread."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import msgpack
from docling.datamodel.base_models import DocumentStream
from docling.datamodel.service.callbacks import CallbackSpec, ProgressTaskCompleted
from docling.datamodel.service.requests import FileSourceRequest
from docling_jobkit.datamodel.chunking import ChunkingExportOptions
from docling_jobkit.datamodel.exportable_document import project_document_dict
from docling_jobkit.datamodel.result import DoclingTaskResult
from docling_jobkit.datamodel.task import Task, validate_task

from docling_serve.engines.base import Reply, Source, Submission, Upload
from docling_serve.engines.staging import display_name
from docling_serve.errors import Failure
from docling_serve.rendering import public_failure, render


def task_of(submission: Submission, allow_external_plugins: bool) -> Task:
    """jobkit's model of a new task, documents included."""
    return validate_task(
        {
            "task_id": str(uuid.uuid4()),
            "task_type": submission.task_type,
            "sources": [_in_the_job(source) for source in submission.sources],
            "convert_options": submission.options,
            "chunking_options": submission.chunking_options,
            "chunking_export_options": ChunkingExportOptions(
                include_converted_doc=submission.include_converted_doc
            ),
            "targets": list(submission.targets),
            "callbacks": list(submission.callbacks),
            "metadata": {"tenant_id": submission.tenant},
            "target_document_version": submission.target_document_version,
        },
        allow_external_plugins=allow_external_plugins,
    )


def callbacks_of(task_data: dict[str, Any]) -> list[CallbackSpec]:
    """Who is to hear of a task."""
    return [CallbackSpec.model_validate(item) for item in task_data.get("callbacks") or []]


def ended_event(failure: Failure | None) -> dict[str, Any]:
    """The last event of a task."""
    ended = ProgressTaskCompleted(
        task_status="failure" if failure else "success",
        failure=public_failure(failure) if failure else None,
    )
    return ended.model_dump(mode="json")


def unpacked(packed: bytes) -> DoclingTaskResult:
    """The result that a worker stored."""
    data = msgpack.unpackb(packed, raw=False, strict_map_key=False)
    return DoclingTaskResult.model_validate(data)


def rendered(packed: bytes, document_version: str | None) -> Reply:
    """The reply to a client that reads ``document_version``, None for today's."""
    body = render(
        unpacked(packed), lambda document: project_document_dict(document, document_version)
    )
    return Reply(media_type=body.media_type, content=body.content, download_name=body.download_name)


def _in_the_job(source: Source) -> Any:
    """A source as a job carries it: an upload becomes base64 text."""
    if isinstance(source, Upload):
        content = source.file.read()
    elif isinstance(source, DocumentStream):  # jobkit's own kind of upload
        content = source.stream.read()
    else:
        return source
    text = base64.b64encode(content).decode("ascii")
    return FileSourceRequest(filename=display_name(source.name), base64_string=text)
