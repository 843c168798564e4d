"""A submission as docling-jobkit's task, and its result as a reply. All of it blocks: use a
thread."""

from __future__ import annotations

import base64
import uuid
from typing import Any

from docling.datamodel.base_models import DocumentStream
from docling.datamodel.service.requests import FileSourceRequest
from docling_jobkit.datamodel.chunking import ChunkingExportOptions
from docling_jobkit.datamodel.exportable_document import project_document_dict
from docling_jobkit.datamodel.result import DoclingTaskResult
from docling_jobkit.datamodel.task import Task, validate_task

from docling_serve.engines.base import Reply, Source, Submission, Upload
from docling_serve.jobs.rendering import render
from docling_serve.jobs.spec import display_name


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


def rendered(result: DoclingTaskResult, document_version: str | None) -> Reply:
    """The reply to a client that reads ``document_version``, None for the current one."""
    body = render(result, lambda document: project_document_dict(document, document_version))
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
