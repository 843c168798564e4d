"""One table that maps exceptions to what the client gets."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from docling.datamodel.service.responses import TaskFailureResult
from docling_jobkit.orchestrators.base_orchestrator import (
    ProgressInvalid,
    RedisBackpressureError,
    TaskNotFoundError,
)
from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from docling_serve.api.json_body import name_ignored_fields
from docling_serve.errors import (
    BY_CANCEL,
    BY_SHUTDOWN,
    DISK_FULL,
    TOO_LARGE,
    UNSUPPORTED_FORMAT,
    Failure,
    KeyReused,
    QueueFull,
    ShuttingDown,
    TaskFailed,
    TaskNotTransferable,
    disk_is_full,
)
from docling_serve.jobs.rendering import public_failure

_log = logging.getLogger(__name__)

NO_TASK = "Task not found."
BUSY = "Server is busy, please try again shortly."  # upstream M105

#: Status of a synchronous request whose task failed, by the failure's category.
FAILURE_STATUS: dict[str, int] = {
    "policy": 422,
    "backend_failure": 422,
    "source_unavailable": 424,
    "target_unavailable": 424,
    "timeout": 504,
    "capacity": 507,
}
#: The same by ``details["reason"]``, which takes precedence.
REASON_STATUS: dict[str, int] = {
    TOO_LARGE: 413,
    UNSUPPORTED_FORMAT: 415,
    BY_CANCEL: 409,
    BY_SHUTDOWN: 503,
}

_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_HIDDEN = frozenset({"input", "ctx", "url"})  # upstream A1


def failure_status(failure: Failure) -> int:
    """The status of an answer that reports ``failure``."""
    reason = failure.details.get("reason", "")
    return REASON_STATUS.get(reason) or FAILURE_STATUS.get(failure.category, 500)


def failure_response(failure: Failure, task_id: str) -> JSONResponse:
    """The answer to a synchronous request whose task failed: the body of ``/v1/result`` for that
    failure, plus the fields of every error answer of this server."""
    body = TaskFailureResult(failure=public_failure(failure)).model_dump(mode="json")
    content: dict[str, Any] = {"detail": failure.message, "task_id": task_id, **body}
    return JSONResponse(content, failure_status(failure))


_Handler = Callable[[Request, Exception], Awaitable[Response]]


def install(app: FastAPI) -> None:
    """Attach the table to ``app``."""
    handlers: dict[type[Exception], _Handler] = {
        RequestValidationError: _invalid,
        TaskNotFoundError: _no_task,
        ProgressInvalid: _bad_progress,
        ShuttingDown: _shutting_down,
        QueueFull: _queue_full,
        KeyReused: _refused,
        TaskNotTransferable: _refused,
        RedisBackpressureError: _busy,
        TaskFailed: _task_failed,
        OSError: _no_room,
        HTTPException: _http_error,
    }
    for error, handle in handlers.items():
        app.add_exception_handler(error, _naming_ignored_fields(handle))


def _naming_ignored_fields(handle: _Handler) -> _Handler:
    """``handle``, whose answer names the form fields that were not recognised: people look for a
    misspelt field in the refusal."""

    async def handle_and_name(request: Request, exc: Exception) -> Response:
        response = await handle(request, exc)
        name_ignored_fields(request, response)
        return response

    return handle_and_name


async def _invalid(_: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, RequestValidationError)
    errors = [{k: v for k, v in error.items() if k not in _HIDDEN} for error in exc.errors()]
    return JSONResponse({"detail": errors}, 422)


async def _no_task(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"detail": NO_TASK}, 404)


async def _bad_progress(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"detail": "Invalid progress payload."}, 400)


async def _shutting_down(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"detail": "The server is shutting down."}, 503, {"Retry-After": "5"})


async def _queue_full(_: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, QueueFull)
    return JSONResponse({"detail": str(exc)}, 429, {"Retry-After": str(exc.retry_after_s)})


async def _refused(_: Request, exc: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(exc)}, 422)


async def _busy(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"detail": BUSY}, 503, {"Retry-After": "1"})


async def _task_failed(_: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, TaskFailed)
    return failure_response(exc.failure, "")


async def _http_error(request: Request, exc: Exception) -> Response:
    """As FastAPI answers, except that a body unread for lack of disk space is not a 400, and that
    ``Allow`` lists the methods of all routes of the path, not only those of the first."""
    assert isinstance(exc, HTTPException)
    if isinstance(exc.__cause__, OSError) and disk_is_full(exc.__cause__):
        return await _no_room(request, exc.__cause__)
    if exc.status_code == 405:
        allow = ", ".join(_methods(request))
        exc = HTTPException(405, exc.detail, {**(exc.headers or {}), "Allow": allow})
    return await http_exception_handler(request, exc)


def _methods(request: Request) -> list[str]:
    """The methods that some route has at the request's path."""

    def answered(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in _METHODS if answered(method)]


async def _no_room(request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, OSError)
    _log.error("%s %s failed", request.method, request.url.path, exc_info=exc)
    if disk_is_full(exc):
        return JSONResponse({"detail": DISK_FULL.message}, 507)
    return JSONResponse({"detail": "The server could not store the request."}, 500)
