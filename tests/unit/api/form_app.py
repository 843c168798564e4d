"""The request side of the convert and chunk endpoints, answering with what it understood."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
from docling.datamodel.service.requests import ConvertSourcesRequest
from fastapi import FastAPI, Header, Request

from docling_serve.api.document_version import HEADER, parse_document_version_header
from docling_serve.api.forms import (
    CALLBACKS,
    CHUNK_CONVERT_OPTIONS,
    CONVERT_OPTIONS,
    FILES,
    HIERARCHICAL_CHUNKING,
    HYBRID_CHUNKING,
    INCLUDE_CONVERTED_DOC,
    TARGET_TYPE,
    MultipartForm,
    Part,
    SentForm,
)
from tests.unit.policy.deployments import policy

app = FastAPI()
POLICY = policy(allow_custom_layout_config=True)

Understood = dict[str, Any]

CONVERT = MultipartForm(FILES, CONVERT_OPTIONS, TARGET_TYPE, CALLBACKS)
HYBRID, HIERARCHICAL = (
    MultipartForm(FILES, CHUNK_CONVERT_OPTIONS, chunking, TARGET_TYPE, INCLUDE_CONVERTED_DOC)
    for chunking in (HYBRID_CHUNKING, HIERARCHICAL_CHUNKING)
)
#: By the paths of their routes.
FORMS = {
    "/v1/convert/file": CONVERT,
    "/v1/chunk/hybrid/file": HYBRID,
    "/v1/chunk/hierarchical/file": HIERARCHICAL,
}


@app.post("/v1/convert/file")
async def convert_file(request: Request) -> Understood:
    sent = await CONVERT.read(request)
    files, options, target_type = sent[FILES], sent[CONVERT_OPTIONS], sent[TARGET_TYPE]
    POLICY.check_source_count(len(files), "files")
    checked = POLICY.check_options(options)
    POLICY.check_targets([target_type.value if target_type else "inbody"])
    return {
        "files": [file.filename for file in files],
        "sent": options.model_dump(mode="json", exclude_unset=True),
        "ocr_preset": checked.ocr_preset,
        "target_type": target_type,
        "callbacks": [spec.model_dump(mode="json") for spec in sent[CALLBACKS]],
    }


@app.post("/v1/convert/source")
async def convert_source(
    body: ConvertSourcesRequest, version: Annotated[str | None, Header(alias=HEADER)] = None
) -> Understood:
    POLICY.check_options(body.options)
    return {"version": parse_document_version_header(version)}


@app.post("/v1/chunk/hierarchical/file")
async def chunk_hierarchical(request: Request) -> Understood:
    sent = await HIERARCHICAL.read(request)
    target_type = sent[TARGET_TYPE]
    POLICY.check_targets([target_type.value if target_type else "inbody"], chunk=True)
    return _chunk_request(sent, HIERARCHICAL_CHUNKING)


@app.post("/v1/chunk/hybrid/file")
async def chunk_hybrid(request: Request) -> Understood:
    return _chunk_request(await HYBRID.read(request), HYBRID_CHUNKING)


def _chunk_request(sent: SentForm, chunking: Part[Any]) -> Understood:
    options = sent[CHUNK_CONVERT_OPTIONS]
    return {
        "options": options.model_dump(mode="json"),
        "sent": sorted(options.model_fields_set),
        "chunking": sent[chunking].model_dump(mode="json"),
        "include_converted_doc": sent[INCLUDE_CONVERTED_DOC],
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
