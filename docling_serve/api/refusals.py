"""The answers of each operation in addition to its result, for the OpenAPI document.

FastAPI lists the statuses 200 and 422 only. What else an operation may answer follows from what it
is: whether it needs a key, reads a body, names a task, or waits for a conversion. Answers that come
before any operation runs (408, 431, and a 405) are in docs/errors.md only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from docling.datamodel.service.responses import PublicFailureInfo
from pydantic import BaseModel, TypeAdapter

from docling_serve.api.forms import REF

Content = dict[str, Any]
"""The ``content`` of an answer in an OpenAPI document: schemas by media type."""

_MEANINGS = {
    400: "The body cannot be read.",
    401: "The API key is missing or wrong.",
    403: "The settings keep this closed.",
    404: "There is no such thing, or no longer.",
    409: "The task was cancelled.",
    413: "The request or a document is too large.",
    415: "The format or the encoding is not supported.",
    424: "A source or target cannot be reached.",
    429: "The queue is full; Retry-After gives the seconds to wait.",
    500: "A fault of the server.",
    503: "Not now: the server starts, shuts down, or its queue is out of reach.",
    504: "A time limit was reached.",
    507: "Memory or disk space ran out.",
}
#: Statuses of answers that always report a task, and of answers that may.
_OF_TASKS = frozenset({409, 415, 424, 500, 504})
_OFTEN_OF_TASKS = frozenset({413, 503, 507})
#: These are decided before a route has a say in their shape.
_UNSHAPED = frozenset({401, 413})
_UPLOADS = "/v1/files"
_METADATA = "/meta"


class Refusal(BaseModel):
    """Why a request was refused."""

    detail: str


class FailedTask(Refusal):
    """Why the task of a synchronous request failed, or what became of it when time was up."""

    task_id: str
    task: Literal["running", "cancelled"] | None = None
    kind: Literal["TaskFailureResult"] | None = None
    failure: PublicFailureInfo | None = None


def add_refusals(document: dict[str, Any], shapes: Mapping[str, Content]) -> None:
    """List the refusals of every operation in ``document``. ``shapes`` are those of other
    programs' APIs, by tag; all others are JSON with ``detail``."""
    schemas = document["components"]["schemas"]
    for model in (Refusal, FailedTask):
        schema = TypeAdapter(model).json_schema(ref_template=REF)
        for name, definition in schema.pop("$defs", {}).items():
            schemas.setdefault(name, definition)
        schemas[model.__name__] = schema
    if "HTTPValidationError" in schemas:
        _allow_text(schemas["HTTPValidationError"]["properties"])
    for path, methods in document["paths"].items():
        for operation in methods.values():
            shape = next((shapes[tag] for tag in operation.get("tags", ()) if tag in shapes), None)
            _add_to(operation, path, shape)


def _allow_text(properties: dict[str, Any]) -> None:
    """A 422 lists the invalid fields, or gives one reason."""
    fields = properties.pop("detail")
    title = fields.pop("title", "Detail")
    properties["detail"] = {"title": title, "anyOf": [fields, {"type": "string"}]}


def _add_to(operation: dict[str, Any], path: str, shape: Content | None) -> None:
    responses = operation["responses"]
    if shape is not None and "422" in responses:
        responses["422"]["content"] = shape
    elif shape is not None and "requestBody" in operation:
        responses["422"] = {"description": "Validation Error", "content": shape}
    for status in sorted(set(_statuses(operation, path))):
        content = _content(status, waits=_waits(operation, path))
        if shape is not None:
            content = {**shape, **_both(content, shape)} if status in _UNSHAPED else shape
        responses.setdefault(str(status), {"description": _MEANINGS[status], "content": content})


def _statuses(operation: dict[str, Any], path: str) -> Iterator[int]:
    tags = operation.get("tags", [])
    body = operation.get("requestBody", {}).get("content", {})
    if operation.get("security"):
        yield 401
    if "management" in tags or path == "/version":
        yield 403
    if "{" in path or path in ("/v1/capacity", "/v1/workers"):
        yield 404
    if path == "/ready" or {"tasks", "clear"} & set(tags):
        yield 503
    if body:
        yield from (413, 415 if "application/octet-stream" in body else 400)
    if body and not path.startswith(_METADATA):
        yield from (429, 507)
        if path != _UPLOADS:
            yield 503
    if _waits(operation, path):
        yield from (404, *_OF_TASKS, *_OFTEN_OF_TASKS)


def _waits(operation: dict[str, Any], path: str) -> bool:
    """Whether the operation answers with the result of a task that it submits."""
    submits = "requestBody" in operation and path != _UPLOADS and not path.startswith(_METADATA)
    return submits and not path.endswith(("/async", "/batch"))


def _content(status: int, *, waits: bool) -> Content:
    models: list[type[BaseModel]] = []
    if not waits or status not in _OF_TASKS:
        models.append(Refusal)
    if waits and status in _OF_TASKS | _OFTEN_OF_TASKS:
        models.append(FailedTask)
    refs = [{"$ref": REF.format(model=model.__name__)} for model in models]
    return {"application/json": {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}}


def _both(content: Content, shape: Content) -> Content:
    """``content``, and where ``shape`` has the same media type, either of the two."""
    return {
        media_type: {"schema": {"anyOf": [shape[media_type]["schema"], body["schema"]]}}
        if media_type in shape
        else body
        for media_type, body in content.items()
    }
