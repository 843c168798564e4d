"""A submission as docling-jobkit's task, and its result as a reply. All of it blocks: use a
thread."""

from __future__ import annotations

import base64
import uuid
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from docling.datamodel.base_models import DocumentStream
from docling.datamodel.service.requests import FileSourceRequest
from docling.datamodel.service.sources import HttpSource
from docling_jobkit.datamodel.chunking import ChunkingExportOptions
from docling_jobkit.datamodel.exportable_document import project_document_dict
from docling_jobkit.datamodel.result import DoclingTaskResult
from docling_jobkit.datamodel.task import Task, validate_task

from docling_serve.engines.base import Reply, Source, Submission, Upload
from docling_serve.engines.redis.lines import Place
from docling_serve.jobs.needs import (
    ENRICHING_OPTIONS,
    HEAD_BYTES,
    is_model_free,
    options_need_models,
)
from docling_serve.jobs.rendering import render
from docling_serve.jobs.spec import display_name

#: Entries of a task's metadata that jobkit ignores: the names of its first documents, and whether
#: it needs no models.
NAMES, LIGHT = "names", "light"
_NAMES_KEPT = 20


def is_light(submission: Submission) -> bool:
    """Whether no document of the request needs models, judged by names and first bytes."""
    options = submission.options.model_dump(include=set(ENRICHING_OPTIONS))
    return not options_need_models(options) and all(
        isinstance(source, Upload) and is_model_free(source.name, _head(source))
        for source in submission.sources
    )


def document_name(source: Source) -> str:
    """The display name of a document; an address without its query, which may contain a key."""
    if isinstance(source, Upload | DocumentStream):
        return display_name(source.name)
    if isinstance(source, HttpSource):
        address = urlsplit(str(source.url))
        return display_name(PurePosixPath(unquote(address.path)).name or address.hostname or "")
    return str(getattr(source, "kind", "connector"))


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
            "metadata": {
                "tenant_id": submission.tenant,
                NAMES: [document_name(source) for source in submission.sources[:_NAMES_KEPT]],
                LIGHT: is_light(submission),
            },
            "target_document_version": submission.target_document_version,
        },
        allow_external_plugins=allow_external_plugins,
    )


def place_of(task: Task) -> Place:
    """Where a new task waits."""
    tenant, light = task.metadata["tenant_id"], bool(task.metadata.get(LIGHT))
    return Place(tenant, cost=len(task.sources), light=light)


def rendered(result: DoclingTaskResult, document_version: str | None) -> Reply:
    """The reply to a client that reads ``document_version``, None for the current one."""
    body = render(result, lambda document: project_document_dict(document, document_version))
    return Reply(media_type=body.media_type, content=body.content, download_name=body.download_name)


def _head(upload: Upload) -> bytes:
    head = upload.file.read(HEAD_BYTES)
    upload.file.seek(0)
    return head


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
