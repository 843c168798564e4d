"""Decides when two requests are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import BinaryIO

from pydantic import BaseModel

from docling_serve.engines.base import Submission, Upload, plain

_READ_BYTES = 1024 * 1024


def fingerprint(submission: Submission, digests: Sequence[str] | None = None) -> str:
    """The same text for the same request, sources and options included.

    ``digests`` are the SHA-256 of the uploads, in order, where known; else the uploads are read.
    Blocks.
    """
    known = iter(digests) if digests is not None else None
    sources: list[object] = []
    for source in submission.sources:
        if isinstance(source, Upload):
            digest = sha256_of(source.file) if known is None else next(known)
            sources.append(["upload", source.name, digest])
        else:
            sources.append(plain(source))
    chunking = submission.chunking_options
    said = {
        "sources": sources,
        "options": plain(submission.options),
        "targets": [plain(target) for target in submission.targets],
        "task_type": submission.task_type.value,
        "chunking_options": plain(chunking) if isinstance(chunking, BaseModel) else None,
        "include_converted_doc": submission.include_converted_doc,
        "callbacks": [plain(callback) for callback in submission.callbacks],
        "target_document_version": submission.target_document_version,
    }
    text = json.dumps(said, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of(source: BinaryIO) -> str:
    """The digest of ``source`` from its beginning; rewinds it afterwards."""
    digest = hashlib.sha256()
    source.seek(0)
    while block := source.read(_READ_BYTES):
        digest.update(block)
    source.seek(0)
    return digest.hexdigest()
