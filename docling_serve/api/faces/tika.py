"""Apache Tika's routes that return text: the document is the body of a PUT, or in a form.

The answer depends on the path and on ``Accept``, as with Tika's server: ``/tika`` returns text
or HTML, and with ``Accept: application/json`` an object; ``/tika/text`` and the forms below it
return an object unless text is requested; ``/rmeta`` returns a list with one object. The text is
under ``X-TIKA:content``. Sources: Tika's description of its server and its clients: Open WebUI,
tika-client 1.0 (paperless-ngx) and tika 3.3 for Python.

Only metadata that need no conversion are returned; of Tika's many, clients need ``Content-Type``
and ``X-TIKA:Parsed-By``.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import filetype
from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse, Response

from docling_serve.api import health
from docling_serve.api.dependencies import RequireApiKey, ServicesDep, Tenant
from docling_serve.api.document_names import document_name, media_type_of
from docling_serve.api.faces.documents import (
    FORM,
    RAW,
    Body,
    answer,
    dumped,
    form_file,
    options_for,
    raw_body,
)
from docling_serve.api.faces.errors import face_route
from docling_serve.api.services import Services
from docling_serve.engines.base import Upload

_JSON, _HTML, _TEXT = "application/json", "text/html", "text/plain"
_CONTENT = "X-TIKA:content"
_PARSED_BY = "docling-serve"
_SNIFFED_BYTES = 8192
#: The last one is what curl sends for any body.
_SAYS_NOTHING = ("", "application/octet-stream", "application/x-www-form-urlencoded")
_NAMES = re.compile(r"filename\*=UTF-8''([^;]+)|filename=\"((?:[^\"\\]|\\.)*)\"|filename=([^;]+)")


def _error(status: int, text: str) -> Response:
    return PlainTextResponse(text, status)


#: How the OpenAPI document describes an error.
ERRORS: dict[str, Any] = {_TEXT: {"schema": {"type": "string"}}}

#: The answer depends on ``Accept``.
_ANY_TYPE: dict[int | str, dict[str, Any]] = {200: {"content": {_TEXT: {}, _HTML: {}}}}

_Kind = Literal["text", "html", "xml"]

router = APIRouter(tags=["tika"], route_class=face_route(_error))
_documents = APIRouter(dependencies=[RequireApiKey], route_class=face_route(_error))


@dataclass(frozen=True)
class _Sent:
    """A document sent by a client of Tika, and what is known of it before its conversion."""

    upload: Upload
    metadata: dict[str, Any]


async def _body(request: Request) -> AsyncIterator[_Sent]:
    async with raw_body(request) as file:
        name = _name_in(request.headers.get("content-disposition", ""))
        yield _sent(Upload(name, file), request.headers.get("content-type"))


async def _form(request: Request) -> AsyncIterator[_Sent]:
    async with form_file(request) as file:
        yield _sent(Upload(file.filename or "", file.file), file.content_type)


def _name_in(disposition: str) -> str:
    """The file name in a ``Content-Disposition`` header; the one in UTF-8 first (RFC 6266)."""
    found = sorted(_NAMES.findall(disposition), key=lambda names: not names[0])
    for extended, quoted, bare in found[:1]:
        name = unquote(extended) or re.sub(r"\\(.)", r"\1", quoted) or bare.strip()
        # tika 3.3 for Python writes the name as the repr of bytes.
        return name[2:-1] if name.startswith("b'") and name.endswith("'") else name
    return ""


def _sent(upload: Upload, content_type: str | None) -> _Sent:
    """``upload`` with a name that shows its format, and its metadata."""
    if media_type_of(content_type) in _SAYS_NOTHING:
        start = upload.file.read(_SNIFFED_BYTES)
        content_type = filetype.guess_mime(start) or _text_type(start)
    size = upload.file.seek(0, 2)
    upload.file.seek(0)
    metadata = {
        "Content-Type": content_type or "application/octet-stream",
        "Content-Length": str(size),
        "X-TIKA:Parsed-By": [_PARSED_BY],
    }
    if upload.name:
        metadata["resourceName"] = upload.name
    return _Sent(Upload(document_name(upload.name, content_type), upload.file), metadata)


def _text_type(start: bytes) -> str | None:
    """``text/plain`` for content that starts as plain text; docling detects markup by itself."""
    is_markup = start.lstrip().startswith((b"<", b"\xef\xbb\xbf<"))
    return None if is_markup or b"\0" in start else "text/plain"


def _wanted(request: Request, otherwise: str) -> str:
    """The first type in ``Accept`` that is offered here."""
    for part in request.headers.get("accept", "").split(","):
        media_type = media_type_of(part)
        if media_type in (_JSON, _HTML, _TEXT):
            return media_type
        if media_type in ("text/xml", "application/xml", "application/xhtml+xml"):
            return _HTML
    return otherwise


async def _converted(
    services: Services,
    request: Request,
    tenant: str,
    sent: _Sent,
    kind: str,
    reply_type: str,
    *,
    as_list: bool = False,
) -> Response:
    """The text or the HTML of the document: alone, or as ``X-TIKA:content`` of an object, which
    ``as_list`` puts into a list."""
    field = "text_content" if kind == "text" else "html_content"

    def shape(body: Body) -> bytes:
        content: str = body["document"][field] or ""
        if reply_type != _JSON:
            return content.encode()
        described = {**sent.metadata, _CONTENT: content}
        return dumped([described] if as_list else described)

    options = options_for(services, "text" if kind == "text" else "html")
    return await answer(services, request, sent.upload, options, tenant, shape, reply_type)


_Body = Annotated[_Sent, Depends(_body)]
_Form = Annotated[_Sent, Depends(_form)]


@router.get("/tika", response_class=PlainTextResponse)
async def greeting() -> str:
    """Report that the server is up; needs no key."""
    return "This is docling-serve, which answers as Apache Tika's server does. PUT a document.\n"


@router.get("/version", include_in_schema=False)
async def version(services: ServicesDep, request: Request) -> Response:
    """One line for clients that ask for text, as Tika's do; all others get the usual JSON."""
    versions = await health.version_info(services)
    if _wanted(request, _JSON) == _TEXT:
        return PlainTextResponse(f"docling-serve {versions['docling-serve']}")
    return Response(dumped(versions), media_type=_JSON)


@_documents.put("/meta", openapi_extra=RAW)
async def metadata_of_body(sent: _Body) -> dict[str, Any]:
    """The metadata of a document, without converting it."""
    return sent.metadata


@_documents.post("/meta/form", openapi_extra=FORM)
@_documents.put("/meta/form", openapi_extra=FORM)
async def metadata_of_form(sent: _Form) -> dict[str, Any]:
    """The metadata of a document, without converting it."""
    return sent.metadata


@_documents.put("/tika", openapi_extra=RAW, responses=_ANY_TYPE)
async def tika(services: ServicesDep, request: Request, tenant: Tenant, sent: _Body) -> Response:
    """The document as text, or as HTML where HTML or JSON is requested."""
    wanted = _wanted(request, _TEXT)
    kind = "text" if wanted == _TEXT else "html"
    return await _converted(services, request, tenant, sent, kind, wanted)


@_documents.post("/tika/form", openapi_extra=FORM, responses=_ANY_TYPE)
@_documents.put("/tika/form", openapi_extra=FORM, responses=_ANY_TYPE)
@_documents.post("/tika/form/{kind}", openapi_extra=FORM, responses=_ANY_TYPE)
@_documents.put("/tika/form/{kind}", openapi_extra=FORM, responses=_ANY_TYPE)
async def tika_form(
    services: ServicesDep, request: Request, tenant: Tenant, sent: _Form, kind: _Kind = "html"
) -> Response:
    """The document of a form, as an object unless something else is requested."""
    return await _converted(services, request, tenant, sent, kind, _wanted(request, _JSON))


@_documents.put("/tika/{kind}", openapi_extra=RAW, responses=_ANY_TYPE)
async def tika_as(
    services: ServicesDep, request: Request, tenant: Tenant, sent: _Body, kind: _Kind
) -> Response:
    """The document in the body, as an object unless something else is requested."""
    return await _converted(services, request, tenant, sent, kind, _wanted(request, _JSON))


@_documents.post("/rmeta/form", openapi_extra=FORM)
@_documents.put("/rmeta/form", openapi_extra=FORM)
@_documents.post("/rmeta/form/{kind}", openapi_extra=FORM)
@_documents.put("/rmeta/form/{kind}", openapi_extra=FORM)
async def rmeta_form(
    services: ServicesDep, request: Request, tenant: Tenant, sent: _Form, kind: _Kind = "html"
) -> Response:
    """The document of a form, as a list of one object."""
    return await _converted(services, request, tenant, sent, kind, _JSON, as_list=True)


@_documents.put("/rmeta", openapi_extra=RAW)
@_documents.put("/rmeta/{kind}", openapi_extra=RAW)
async def rmeta(
    services: ServicesDep, request: Request, tenant: Tenant, sent: _Body, kind: _Kind = "html"
) -> Response:
    """The document in the body, as a list of one object."""
    return await _converted(services, request, tenant, sent, kind, _JSON, as_list=True)


router.include_router(_documents)
