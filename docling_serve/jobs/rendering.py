"""Turn a finished conversion into the exact HTTP body of the reply.

The worker calls this, so that the API process never holds a document; engines that return result
objects (rq, ray) call the same function in the API process.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
from docling.datamodel.service.responses import (
    ChunkDocumentResponse,
    ChunkedDocumentResult,
    ConvertDocumentResponse,
    DoclingTaskResult,
    DocumentResultItem,
    PresignedArtifactResult,
    PresignedUrlConvertDocumentResponse,
    PresignedUrlConvertResponse,
    PublicFailureInfo,
    TaskFailureResult,
    ZipArchiveResult,
)
from docling_jobkit.orchestrators.serialization import make_msgpack_safe

from docling_serve.errors import Failure

JSON = "application/json"
ZIP = "application/zip"
MSGPACK = "application/msgpack"
ZIP_NAME = "converted_docs.zip"  # upstream F58

DocumentProjection = Callable[[Any], dict[str, Any] | None]
"""Returns the JSON form of a document in an older schema, or None to keep the native one."""


@dataclass(frozen=True)
class Rendered:
    """An HTTP body, its type, and its file name when it is an attachment."""

    content: bytes
    media_type: str
    download_name: str | None = None


def render(outcome: DoclingTaskResult, project: DocumentProjection | None = None) -> Rendered:
    """Render ``outcome``; ``project`` converts in-body documents to the schema a client reads."""
    result = outcome.result
    if isinstance(result, ZipArchiveResult):
        return Rendered(result.content, ZIP, ZIP_NAME)
    if isinstance(result, DocumentResultItem):
        return Rendered(_inbody(result, outcome.processing_time, project), JSON)
    if isinstance(result, ChunkedDocumentResult):
        chunked = ChunkDocumentResponse(
            chunks=result.chunks,
            documents=result.documents,
            processing_time=outcome.processing_time,
        )
        return Rendered(_json(chunked), JSON)
    counts = {
        "processing_time": outcome.processing_time,
        "num_converted": outcome.num_converted,
        "num_succeeded": outcome.num_succeeded,
        "num_partially_succeeded": outcome.num_partially_succeeded,
        "num_failed": outcome.num_failed,
    }
    if isinstance(result, PresignedArtifactResult):
        presigned = PresignedUrlConvertResponse(documents=result.documents, **counts)
        return Rendered(_json(presigned), JSON)
    return Rendered(_json(PresignedUrlConvertDocumentResponse(**counts)), JSON)


def pack(outcome: DoclingTaskResult) -> Rendered:
    """``outcome`` as docling-jobkit's rq workers store it, to be rendered later."""
    safe = make_msgpack_safe(outcome.model_dump())  # type: ignore[no-untyped-call]
    packed: bytes = msgpack.packb(safe, use_bin_type=True)
    return Rendered(packed, MSGPACK)


def render_failure(failure: Failure) -> Rendered:
    """The reply for a failed task, in the shape that docling's service client reads."""
    body = TaskFailureResult(failure=public_failure(failure))
    return Rendered(_json(body), JSON)


def public_failure(failure: Failure) -> PublicFailureInfo:
    """The wire model of ``failure``."""
    return PublicFailureInfo.model_validate(
        {
            "category": failure.category,
            "message": failure.message,
            "retryable": failure.retryable,
            "phase": failure.phase,
            "details": failure.details,
        }
    )


def _inbody(
    item: DocumentResultItem, processing_time: float, project: DocumentProjection | None
) -> bytes:
    document = item.document
    projected = project(document.json_content) if project and document.json_content else None
    response = ConvertDocumentResponse(
        document=document,
        status=item.status,
        errors=item.errors,
        processing_time=processing_time,
        timings=item.timings,
        confidence=item.confidence,
    )
    if projected is None:
        return _json(response)
    # A projected document is data of an older schema: loading it into the model would restore
    # today's version, so it is put into the dumped reply instead.

    response.document = document.model_copy(update={"json_content": None})
    reply = response.model_dump(mode="json", by_alias=True)
    reply["document"]["json_content"] = projected
    return json.dumps(reply, ensure_ascii=False, separators=(",", ":")).encode()


def _json(model: Any) -> bytes:
    text: str = model.model_dump_json(by_alias=True)
    return text.encode()
