"""Put a submission on disk as a job: documents as files, everything else as plain data."""

from __future__ import annotations

import os
import shutil
from pathlib import PurePosixPath
from typing import Any

from docling.datamodel.service.sources import FileSource, HttpSource

from docling_serve.engines.base import Source, Submission, Upload, plain
from docling_serve.jobs import (
    ConnectorSource,
    JobSource,
    JobSpec,
    RemoteUrl,
    StagedFile,
    TaskFolder,
)

_COPY_BYTES = 1024 * 1024


def stage(
    submission: Submission,
    task_id: str,
    folder: TaskFolder,
    converter_config: dict[str, Any],
    debug_error_details: bool,
    presigned_config: dict[str, Any] | None = None,
) -> JobSpec:
    """Write the documents and ``job.json`` of ``submission`` into ``folder``.

    Blocking: call it from a thread. Memory stays flat however large an upload is.

    Raises:
        OSError: the disk is full, or the folder is gone.
    """
    spec = JobSpec(
        task_id=task_id,
        task_type=submission.task_type.value,
        sources=[
            _stage_source(source, index, folder) for index, source in enumerate(submission.sources)
        ],
        options=plain(submission.options),
        targets=[plain(target) for target in submission.targets],
        chunking_options=(
            plain(submission.chunking_options) if submission.chunking_options else None
        ),
        include_converted_doc=submission.include_converted_doc,
        callbacks=[plain(callback) for callback in submission.callbacks],
        target_document_version=submission.target_document_version,
        converter_config=converter_config,
        presigned_config=presigned_config,
        debug_error_details=debug_error_details,
    )
    folder.write_job(spec)
    return spec


def display_name(name: str) -> str:
    """The last part of a client's file name; directories are dropped (contract: behaviour E49)."""
    text = name.encode("utf-8", "replace").decode()  # JSON may carry half a surrogate pair
    last = PurePosixPath(text.replace("\\", "/")).name
    return last if last not in ("", ".", "..") else "document"


def _stage_source(source: Source, index: int, folder: TaskFolder) -> JobSource:
    if isinstance(source, Upload):
        path = folder.input(index)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            shutil.copyfileobj(source.file, target, _COPY_BYTES)
        relative = str(path.relative_to(folder.root))
        return StagedFile(path=relative, filename=display_name(source.name))
    if isinstance(source, HttpSource):
        return RemoteUrl(
            url=str(source.url), headers={k: str(v) for k, v in source.headers.items()}
        )
    if isinstance(source, FileSource):
        raise TypeError("base64 sources are decoded before they reach an engine")
    return ConnectorSource(config=plain(source))
