"""Write a submission to disk as a job: documents as files, everything else as plain data."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from docling.datamodel.service.sources import FileSource, HttpSource

from docling_serve.engines.base import Source, Submission, Upload, plain
from docling_serve.engines.local.disk import Disk
from docling_serve.jobs.needs import may_need_models
from docling_serve.jobs.spec import JobSpec, TaskFolder, display_name


@dataclass(frozen=True)
class Deployment:
    """The parts of a job that come from the server it runs on, not from its request."""

    converter_config: dict[str, Any] = field(default_factory=dict)
    presigned_config: dict[str, Any] | None = None
    debug_error_details: bool = False

    def as_job_fields(self) -> dict[str, Any]:
        """As fields of a :class:`JobSpec`."""
        return {
            "converter_config": self.converter_config,
            "presigned_config": self.presigned_config,
            "debug_error_details": self.debug_error_details,
        }


@dataclass(frozen=True)
class Staged:
    """A submission on disk. ``digests`` are the SHA-256 of its uploads, in order; a ``light`` one
    needs no models."""

    spec: JobSpec
    digests: list[str]
    light: bool


def stage(
    submission: Submission,
    task_id: str,
    folder: TaskFolder,
    deployment: Deployment,
    disk: Disk,
) -> Staged:
    """Write the documents and ``job.json`` of ``submission`` into ``folder``.

    Blocking: call it from a thread. Memory stays flat however large an upload is.

    Raises:
        TaskNotTransferable: a value of the request is not plain data.
        OSError: the disk is full, or the folder is gone.
    """
    digests: list[str] = []
    sources = [
        _stage_source(source, index, folder, disk, digests)
        for index, source in enumerate(submission.sources)
    ]
    chunking = submission.chunking_options
    spec = JobSpec.from_task_dict(
        {
            "task_id": task_id,
            "task_type": submission.task_type.value,
            "sources": sources,
            "options": plain(submission.options),
            "targets": [plain(target) for target in submission.targets],
            "chunking_options": plain(chunking) if chunking else None,
            "include_converted_doc": submission.include_converted_doc,
            "callbacks": [plain(callback) for callback in submission.callbacks],
            "target_document_version": submission.target_document_version,
            **deployment.as_job_fields(),
        }
    )
    disk.sync_folder(folder.inputs)
    disk.write_text(folder.job_file, spec.model_dump_json())
    disk.sync_folder(folder.root.parent)
    return Staged(spec, digests, light=not may_need_models(spec, folder))


def size_of(submission: Submission) -> int:
    """Bytes of the uploads; the size of what a worker fetches is not known yet."""
    sizes = [
        source.file.seek(0, os.SEEK_END)
        for source in submission.sources
        if isinstance(source, Upload)
    ]
    for source in submission.sources:
        if isinstance(source, Upload):
            source.file.seek(0)
    return sum(sizes)


def _stage_source(
    source: Source, index: int, folder: TaskFolder, disk: Disk, digests: list[str]
) -> dict[str, Any]:
    """The source in the fields of a :data:`docling_serve.jobs.spec.JobSource`."""
    if isinstance(source, Upload):
        path = folder.input(index)
        digests.append(disk.copy(source.file, path).digest)
        relative = str(path.relative_to(folder.root))
        return {"kind": "file", "path": relative, "filename": display_name(source.name)}
    if isinstance(source, HttpSource):
        headers = {k: str(v) for k, v in source.headers.items()}
        return {"kind": "http", "url": str(source.url), "headers": headers}
    if isinstance(source, FileSource):
        raise TypeError("base64 sources are decoded before they reach an engine")
    return {"kind": "connector", "config": plain(source)}
