"""The request side of the convert and chunk endpoints, answering with what it understood."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
from docling.datamodel.service.requests import ConvertSourcesRequest
from fastapi import FastAPI, Header

from docling_serve.api.document_version import HEADER, parse_document_version_header
from docling_serve.api.forms import (
    CallbacksForm,
    ChunkConvertOptionsForm,
    ConvertOptionsForm,
    FilesForm,
    HierarchicalChunkingForm,
    HybridChunkingForm,
    IncludeConvertedDocForm,
    TargetTypeForm,
)
from tests.unit.policy.deployments import policy

app = FastAPI()
POLICY = policy(allow_custom_layout_config=True)

Understood = dict[str, Any]


@app.post("/v1/convert/file")
async def convert_file(
    files: FilesForm,
    options: ConvertOptionsForm,
    target_type: TargetTypeForm,
    callbacks: CallbacksForm,
) -> Understood:
    POLICY.check_source_count(len(files), "files")
    checked = POLICY.check_options(options)
    POLICY.check_targets([target_type.value if target_type else "inbody"])
    return {
        "files": [file.filename for file in files],
        "sent": options.model_dump(mode="json", exclude_unset=True),
        "ocr_preset": checked.ocr_preset,
        "target_type": target_type,
        "callbacks": [spec.model_dump(mode="json") for spec in callbacks],
    }


@app.post("/v1/convert/source")
async def convert_source(
    body: ConvertSourcesRequest, version: Annotated[str | None, Header(alias=HEADER)] = None
) -> Understood:
    POLICY.check_options(body.options)
    return {"version": parse_document_version_header(version)}


@app.post("/v1/chunk/hierarchical/file")
async def chunk_hierarchical(
    files: FilesForm,
    options: ChunkConvertOptionsForm,
    chunking: HierarchicalChunkingForm,
    target_type: TargetTypeForm,
    include_converted_doc: IncludeConvertedDocForm = False,
) -> Understood:
    POLICY.check_targets([target_type.value if target_type else "inbody"], chunk=True)
    return _chunk_request(options, chunking, include_converted_doc)


@app.post("/v1/chunk/hybrid/file")
async def chunk_hybrid(
    files: FilesForm,
    options: ChunkConvertOptionsForm,
    chunking: HybridChunkingForm,
    target_type: TargetTypeForm,
    include_converted_doc: IncludeConvertedDocForm = False,
) -> Understood:
    return _chunk_request(options, chunking, include_converted_doc)


def _chunk_request(options: Any, chunking: Any, include_converted_doc: bool) -> Understood:
    return {
        "options": options.model_dump(mode="json"),
        "sent": sorted(options.model_fields_set),
        "chunking": chunking.model_dump(mode="json"),
        "include_converted_doc": include_converted_doc,
    }


async def post(path: str, **request: Any) -> httpx.Response:
    """Send one real request through the ASGI interface."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        return await client.post(path, **request)


async def post_form(path: str, fields: dict[str, Any] | None = None, *names: str) -> httpx.Response:
    """Send ``fields`` and one small file per name (``a.md`` where none is given)."""
    files = [("files", (name, b"# T")) for name in names or ("a.md",)]
    return await post(path, data=fields or {}, files=files)


def errors(response: httpx.Response) -> Any:
    """The detail as the wire shows it: a text, or errors of ``type``, ``loc`` and ``msg``."""
    assert response.status_code == 422, response.text
    detail = response.json()["detail"]
    if isinstance(detail, str):
        return detail
    return [{key: error[key] for key in ("type", "loc", "msg")} for error in detail]
