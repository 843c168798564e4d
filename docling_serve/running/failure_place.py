"""Say which document a failure concerns, where only the server knows.

A worker names the document itself. If the task was stopped at a limit, or its worker was lost, the
last reported progress says where it was.
"""

from __future__ import annotations

from dataclasses import replace

from docling_serve.errors import Failure
from docling_serve.jobs.spec import JobProgress, JobSpec, StagedFile


def with_place(failure: Failure, spec: JobSpec, progress: JobProgress | None) -> Failure:
    """``failure`` with what is known about the place in ``details``: the ``document`` and its
    ``document_number`` from 1, docling's phase as ``doing``, and ``pages_done``."""
    whole = failure.category == "policy"  # concerns the request, or the client that cancelled it
    if progress is None or whole or "document_number" in failure.details:
        return failure
    place = {"document_number": str(progress.document), "doing": progress.phase}
    source = spec.sources[progress.document - 1] if progress.document <= len(spec.sources) else None
    if isinstance(source, StagedFile):
        place["document"] = source.filename
    if progress.total_pages:
        place["pages_done"] = f"{progress.completed_pages} of {progress.total_pages}"
    return replace(failure, details={**place, **failure.details})
