"""A task as one flat dictionary, and the job made from it.

docling-jobkit's queue holds tasks in this form: the fields of its ``Task``. Code outside the server
adds the settings of the converter to them.
"""

from __future__ import annotations

import base64
import binascii
import shutil
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from docling_core.types.io import DocumentStream
from docling_jobkit.orchestrators.serialization import dump_model_with_secrets
from pydantic import BaseModel

from docling_serve.errors import Failure, TaskFailed, TaskNotTransferable
from docling_serve.jobs.spec import (
    ConnectorSource,
    JobSource,
    JobSpec,
    RemoteUrl,
    StagedFile,
    TaskFolder,
    display_name,
)
from docling_serve.settings.converter_config import CONVERTER_SETTINGS

TASK_FIELDS = frozenset(
    (
        *("task_id", "task_type", "sources", "target", "targets", "convert_options"),
        *("chunking_options", "chunking_export_options", "callbacks", "target_document_version"),
    )
)
"""The fields of a task that are read."""


def is_flat(task_dict: Mapping[str, Any]) -> bool:
    """Whether ``task_dict`` has this form, not that of :class:`JobSpec`."""
    return "convert_options" in task_dict


def converter_settings(task_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the converter among the fields of ``task_dict``, as JSON data.

    Raises:
        TaskNotTransferable: a field belongs neither to a task nor to these settings.
    """
    given = set(task_dict) - TASK_FIELDS
    for name in sorted(given - CONVERTER_SETTINGS):
        raise TaskNotTransferable(name, "neither a field of a task nor a setting of the converter")
    return {name: _plain(task_dict[name]) for name in task_dict if name in given}


def stage_task(task_data: Mapping[str, Any], folder: TaskFolder, **deployment: Any) -> JobSpec:
    """Write the job of ``task_data`` into ``folder``, with its documents. Blocks.

    Values may be docling's models or their JSON form; a source may be a ``DocumentStream``, too.
    ``deployment`` are the fields of :class:`JobSpec` that a task does not decide.

    Raises:
        TaskFailed: a document is not base64.
        TaskNotTransferable: a field is missing, of the wrong type, or not plain data.
        OSError: the disk is full.
    """
    plain: dict[str, Any] = {
        name: _plain(value) for name, value in task_data.items() if name != "sources"
    }
    export = plain.get("chunking_export_options") or {}
    folder.inputs.mkdir(mode=0o700, exist_ok=True)
    sources = [
        _stage_source(source, index, folder)
        for index, source in enumerate(task_data.get("sources") or [])
    ]
    job = {
        "task_id": plain.get("task_id"),
        "task_type": plain.get("task_type") or "convert",
        "sources": [source.model_dump() for source in sources],
        "options": plain.get("convert_options") or {},
        "targets": plain.get("targets") or [plain.get("target") or {"kind": "inbody"}],
        "chunking_options": plain.get("chunking_options"),
        "include_converted_doc": bool(export.get("include_converted_doc")),
        "callbacks": plain.get("callbacks") or [],
        "target_document_version": plain.get("target_document_version"),
        **deployment,
    }
    spec = JobSpec.from_task_dict(job)
    folder.write_job(spec)
    return spec


def _stage_source(source: Any, index: int, folder: TaskFolder) -> JobSource:
    if isinstance(source, DocumentStream):
        with _open(folder, index) as file:
            shutil.copyfileobj(source.stream, file)
        return _staged(folder, index, source.name)
    fields = _plain(source)
    if not isinstance(fields, dict):
        raise TaskNotTransferable(f"sources.{index}", f"{type(source).__name__} is not a source")
    if fields.get("kind") == "file" and "base64_string" in fields:
        try:
            content = base64.b64decode(fields["base64_string"])
        except binascii.Error as exc:
            failure = Failure("policy", f"Document {index + 1} is not base64: {exc}.")
            raise TaskFailed(failure) from exc
        with _open(folder, index) as file:
            file.write(content)
        return _staged(folder, index, fields["filename"])
    if fields.get("kind") == "http":
        headers = {name: str(value) for name, value in (fields.get("headers") or {}).items()}
        return RemoteUrl(url=str(fields["url"]), headers=headers)
    return ConnectorSource(config=fields)


def _open(folder: TaskFolder, index: int) -> Any:
    path = folder.input(index)
    path.touch(mode=0o600)
    return path.open("wb")


def _staged(folder: TaskFolder, index: int, name: str) -> StagedFile:
    relative = str(folder.input(index).relative_to(folder.root))
    return StagedFile(path=relative, filename=display_name(name))


def _plain(value: Any) -> Any:
    """``value`` as JSON data, secrets included, if possible; otherwise unchanged."""
    if isinstance(value, BaseModel):
        return dump_model_with_secrets(value, serialize_as_any=True)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value
