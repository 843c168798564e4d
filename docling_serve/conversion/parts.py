"""A job that is one part of a task: the pages of a slice, the merge of slices, or a page count.

The server's side of this is :mod:`docling_serve.subprocess_worker.pool.page_fanout`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from docling_serve.conversion.pdf_access import page_count
from docling_serve.internals.docling_pages import SlicedDocuments, slicing
from docling_serve.jobs.spec import JobSpec, MergeSlices, PageSlice, StagedFile, TaskFolder

if TYPE_CHECKING:
    from docling.pipeline.base_pipeline import BasePipeline


def page_counts(spec: JobSpec, folder: TaskFolder, limit: int) -> bytes:
    """How many pages each document of the job has, null where that is unknown or beyond ``limit``,
    so that documents that will be refused are not cut; as JSON."""
    counts = [
        page_count(folder.source(source)) if isinstance(source, StagedFile) else None
        for source in spec.sources
    ]
    known = [None if count is None or count > limit else count for count in counts]
    return json.dumps(known).encode()


def page_range(spec: JobSpec, asked_for: tuple[int, int]) -> tuple[int, int]:
    """The pages that the job converts, both included, of those that its client ``asked_for``."""
    if isinstance(spec.part, PageSlice):
        return spec.part.first, spec.part.last
    return asked_for


def adaptation(spec: JobSpec, folder: TaskFolder) -> Callable[[BasePipeline], BasePipeline]:
    """How docling's PDF pipeline changes for the part of a task that this job is."""
    if isinstance(spec.part, PageSlice):
        return slicing
    if isinstance(spec.part, MergeSlices):
        files = [folder.root / name for name in spec.part.files]
        return SlicedDocuments(file.read_bytes() for file in files).merging
    return lambda pipeline: pipeline
