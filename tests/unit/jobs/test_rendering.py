"""Every kind of result as the body that answers for it; shapes: contract, probes 01, 05, 07, 08."""

from __future__ import annotations

import json
from typing import Any

import pytest
from docling.datamodel.base_models import (
    ConversionStatus,
    DoclingComponentType,
    ErrorItem,
    FailureCategory,
)
from docling.datamodel.service.responses import (
    ArtifactRef,
    ChunkedDocumentResult,
    ChunkedDocumentResultItem,
    ConfidenceScores,
    DoclingTaskResult,
    DocumentArtifactItem,
    DocumentResultItem,
    ExportDocumentResponse,
    PresignedArtifactResult,
    RemoteTargetResult,
    ZipArchiveResult,
)
from docling_core.types.doc.document import DoclingDocument

from docling_serve.errors import Failure
from docling_serve.jobs.rendering import public_failure, render, render_failure

CONTENTS = (
    "md_content",
    "json_content",
    "html_content",
    "text_content",
    "doctags_content",
    "doclang_content",
)
UNSPECIFIED: dict[str, Any] = {
    "parse_score": None,
    "layout_score": None,
    "table_score": None,
    "ocr_score": None,
    "mean_score": None,
    "low_score": None,
    "mean_grade": "unspecified",
    "low_grade": "unspecified",
    "pages": {},
}


def outcome(result: Any, **counts: int) -> DoclingTaskResult:
    figures = {"num_converted": 1, "num_succeeded": 1, "num_failed": 0} | counts
    return DoclingTaskResult(result=result, processing_time=0.25, **figures)


def document(**contents: Any) -> ExportDocumentResponse:
    return ExportDocumentResponse(filename="名 a.md", **contents)


def exported(**contents: Any) -> dict[str, Any]:
    """How a document looks on the wire: what was not asked for is null."""
    return {"filename": "名 a.md"} | dict.fromkeys(CONTENTS) | contents


def body(result: Any, **counts: int) -> Any:
    rendered = render(outcome(result, **counts))
    assert rendered.media_type == "application/json"
    assert rendered.download_name is None
    return json.loads(rendered.content)


def test_one_document_in_the_body() -> None:
    item = DocumentResultItem(
        document=document(md_content="# T"),
        status=ConversionStatus.SUCCESS,
        confidence=ConfidenceScores(),
    )

    assert body(item) == {
        "document": exported(md_content="# T"),
        "status": "success",
        "errors": [],
        "processing_time": 0.25,
        "timings": {},
        "confidence": UNSPECIFIED,
    }


def test_a_document_that_was_skipped() -> None:
    error = ErrorItem(
        component_type=DoclingComponentType.USER_INPUT,
        module_name="",
        error_message="File format not allowed: a.xyz",
        category=FailureCategory.POLICY,
    )
    item = DocumentResultItem(document=document(), status=ConversionStatus.SKIPPED, errors=[error])

    reply = body(item)
    assert reply["status"] == "skipped"
    assert reply["document"] == exported()
    assert reply["confidence"] is None
    assert reply["errors"] == [
        {
            "component_type": "user_input",
            "module_name": "",
            "error_message": "File format not allowed: a.xyz",
            "category": "policy",
            "page_no": None,
        }
    ]


@pytest.mark.parametrize("name", [None, "a.zip"])
def test_an_archive_is_an_attachment(name: str | None) -> None:
    rendered = render(outcome(ZipArchiveResult(content=b"PK\x05\x06", filename=name)))

    assert rendered.content == b"PK\x05\x06"
    assert rendered.media_type == "application/zip"
    assert rendered.download_name == "converted_docs.zip"  # upstream F58


def test_chunks_keep_their_documents() -> None:
    chunk = ChunkedDocumentResultItem(
        filename="a.md",
        chunk_index=0,
        text="T\npara one",
        headings=["T"],
        doc_items=["#/texts/1"],
        page_numbers=[],
        metadata={"origin": {"filename": "a.md"}, "has_image": False},
    )
    item = DocumentResultItem(document=document(), status=ConversionStatus.SUCCESS)

    assert body(ChunkedDocumentResult(chunks=[chunk], documents=[item])) == {
        "chunks": [
            {
                "filename": "a.md",
                "chunk_index": 0,
                "text": "T\npara one",
                "raw_text": None,
                "num_tokens": None,
                "headings": ["T"],
                "captions": None,
                "doc_items": ["#/texts/1"],
                "page_numbers": [],
                "metadata": {"origin": {"filename": "a.md"}, "has_image": False},
            }
        ],
        "documents": [
            {
                "kind": "ExportResult",
                "content": exported(),  # not "document": upstream J88
                "status": "success",
                "errors": [],
                "timings": {},
                "confidence": None,
            }
        ],
        "processing_time": 0.25,
    }


COUNTS = {
    "num_converted": 3,
    "num_succeeded": 1,
    "num_partially_succeeded": 1,
    "num_failed": 1,
}


def test_a_result_that_was_sent_elsewhere_is_told_in_numbers() -> None:
    assert body(RemoteTargetResult(), **COUNTS) == {**COUNTS, "processing_time": 0.25}


def test_artifacts_are_listed_with_their_links() -> None:
    link = ArtifactRef(
        artifact_type="markdown", mime_type="text/markdown", uri="https://s3.example.com/a.md?sig=1"
    )
    item = DocumentArtifactItem(
        source_index=0,
        source_uri="a.pdf",
        filename="a.pdf",
        status=ConversionStatus.SUCCESS,
        artifacts=[link],
    )

    reply = body(PresignedArtifactResult(documents=[item]), **COUNTS)
    assert {key: reply[key] for key in COUNTS} == COUNTS
    assert reply["documents"][0]["artifacts"] == [
        {
            "artifact_type": "markdown",
            "mime_type": "text/markdown",
            "uri": "https://s3.example.com/a.md?sig=1",
            "url_expires_at": None,
        }
    ]


# ---- documents in an older schema ----------------------------------------------------------------


def with_json(projected: dict[str, Any] | None) -> Any:
    item = DocumentResultItem(
        document=document(json_content=DoclingDocument(name="名"), md_content="# T"),
        status=ConversionStatus.SUCCESS,
    )
    given: list[DoclingDocument] = []

    def project(found: DoclingDocument) -> dict[str, Any] | None:
        given.append(found)
        return projected

    reply = json.loads(render(outcome(item), project).content)
    assert [found.name for found in given] == ["名"]
    return reply


def test_a_projected_document_takes_the_place_of_the_native_one() -> None:
    reply = with_json({"version": "1.5.0", "name": "名"})

    assert reply["document"] == exported(
        md_content="# T", json_content={"version": "1.5.0", "name": "名"}
    )
    assert list(reply) == [
        "document",
        "status",
        "errors",
        "processing_time",
        "timings",
        "confidence",
    ]


def test_without_a_projection_the_native_one_stays() -> None:
    reply = with_json(None)

    native = reply["document"]["json_content"]
    assert native["schema_name"] == "DoclingDocument"
    assert native["version"] == json.loads(DoclingDocument(name="x").model_dump_json())["version"]


def test_no_json_means_nothing_to_project() -> None:
    def project(_: object) -> dict[str, Any]:
        raise AssertionError("there is no document")

    item = DocumentResultItem(document=document(), status=ConversionStatus.SUCCESS)
    assert json.loads(render(outcome(item), project).content)["document"] == exported()


@pytest.mark.parametrize("projected", [None, {"version": "1.5.0"}])
def test_text_is_sent_as_it_is_and_compactly(projected: dict[str, Any] | None) -> None:
    item = DocumentResultItem(
        document=document(json_content=DoclingDocument(name="名"), md_content="ü"),
        status=ConversionStatus.SUCCESS,
    )
    content = render(outcome(item), lambda _: projected).content

    assert '"md_content":"ü"'.encode() in content


# ---- failures ------------------------------------------------------------------------------------


def test_a_failure_in_the_shape_that_clients_read() -> None:
    failure = Failure("backend_failure", "It crashed.", True, "execution", {"exit": "SIGSEGV"})
    rendered = render_failure(failure)

    assert rendered.media_type == "application/json"
    assert json.loads(rendered.content) == {
        "kind": "TaskFailureResult",
        "failure": {
            "category": "backend_failure",
            "message": "It crashed.",
            "retryable": True,
            "phase": "execution",
            "details": {"exit": "SIGSEGV"},
        },
    }


@pytest.mark.parametrize("category", [category.value for category in FailureCategory])
def test_every_category_of_docling_is_understood(category: str) -> None:
    assert public_failure(Failure(category, "x")).category is FailureCategory(category)
