"""Submit, wait, answer: each written once, used by every route that creates or reads a task."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from docling_jobkit.orchestrators.base_orchestrator import TaskNotFoundError
from fastapi import HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.background import BackgroundTask

from docling_serve.api.error_handlers import failure_response
from docling_serve.api.json_body import forget_body
from docling_serve.api.services import Services
from docling_serve.api.task_models import (
    CapacityResponse,
    LineCapacityResponse,
    ListedTask,
    TaskProcessingMeta,
    TaskStatusResponse,
)
from docling_serve.api.task_stage import (
    converted_s,
    sentence,
    stage_of,
    tasks_ahead,
    waited_s,
)
from docling_serve.engines.base import Capacity, Reply, Submission, TaskView
from docling_serve.errors import Failure
from docling_serve.jobs.rendering import public_failure, render_failure

#: A result up to this size is sent from memory.
_SMALL_BYTES = 64 * 1024
_NOT_YET = "Task result not found. Please wait for a completion status."


def status_response(view: TaskView) -> TaskStatusResponse:
    """The wire model of a task's state."""
    return TaskStatusResponse.model_validate(
        {
            "task_id": view.task_id,
            "task_type": view.task_type,
            "task_status": view.status.value,
            "task_position": view.position,
            "task_meta": _meta(view),
            "stage": stage_of(view),
            "stage_text": sentence(view),
            "tasks_ahead": tasks_ahead(view),
            "expected_wait_s": view.expected_wait_s,
            "waited_s": waited_s(view),
            "converted_s": converted_s(view),
            "error_message": view.failure.message if view.failure else None,
            "failure": public_failure(view.failure) if view.failure else None,
        }
    )


def listed(view: TaskView) -> ListedTask:
    """The wire model of a task in a list."""
    times = {name: getattr(view, name) for name in ("created_at", "started_at", "finished_at")}
    about = {"names": list(view.names), "num_docs": view.num_docs, "num_pages": _pages(view)}
    return ListedTask.model_validate({**status_response(view).model_dump(), **times, **about})


def capacity_response(capacity: Capacity) -> CapacityResponse:
    """The wire model of an engine's load."""
    light = capacity.light
    return CapacityResponse(
        **asdict(capacity.heavy),
        room=capacity.room,
        light=LineCapacityResponse(**asdict(light)) if light else None,
    )


async def submit_async(
    services: Services, submission: Submission, key: str | None, response: Response
) -> TaskStatusResponse:
    """Accept a task and report where it stands; requests with the same ``key`` make one task only.
    The headers of ``response`` say whether the result was looked up among earlier ones."""
    view = await services.engine.submit(replace(submission, idempotency_key=key))
    response.headers.update(_cache_header(view))
    return status_response(view)


async def submit_and_wait(
    services: Services, submission: Submission, request: Request, key: str | None
) -> Response:
    """Accept a task and answer with its result, or as :func:`submit_and_finish` does."""
    view = await submit_and_finish(services, submission, request, key)
    if isinstance(view, Response):
        return view
    return await result_response(services, view, submission.tenant)


async def submit_and_finish(
    services: Services, submission: Submission, request: Request, key: str | None
) -> TaskView | Response:
    """Accept a task and wait until it has succeeded; else return the answer: that of its failure,
    or 504 when ``max_sync_wait`` ran out. A client that sends a ``key`` intends to reconnect, so
    the task then continues without it."""
    attached = key is None and services.settings.sync_cancel_on_disconnect
    submission = replace(submission, idempotency_key=key, attached=attached)
    view = await services.engine.submit(submission)
    forget_body(request)
    view = await _wait(services, submission, view, request)
    if not view.finished:
        return await _too_long(services, view, submission)
    if view.failure is not None:
        return failure_response(view.failure, view.task_id)
    return view


async def task_result(services: Services, task_id: str, tenant: str) -> Response:
    """The reply of a finished task; for a failed one the failure, in the shape that docling's
    service client reads.

    Raises:
        HTTPException: 404 while the task has not finished (upstream G69).
    """
    view = await services.engine.view(task_id, tenant)
    if not view.finished:
        raise HTTPException(404, _NOT_YET)
    if view.failure is not None:
        rendered = render_failure(view.failure)
        return Response(
            rendered.content,
            media_type=rendered.media_type,
            background=fetched(services, task_id),
        )
    return await result_response(services, view, tenant)


async def read_result(services: Services, view: TaskView, tenant: str) -> bytes:
    """The whole body of a successful task, for routes that build their answer from it."""
    reply = await _reply(services, view, tenant)
    if reply.path is None:
        return reply.content
    try:
        return await asyncio.to_thread(reply.path.read_bytes)
    except FileNotFoundError:  # it expired just now
        raise TaskNotFoundError from None


def result_headers(view: TaskView) -> dict[str, str]:
    """The headers of every answer with a result."""
    return {"X-Docling-Task-Id": view.task_id, **_cache_header(view)}


def _cache_header(view: TaskView) -> dict[str, str]:
    """Whether the result was made for an earlier request; nothing where it was not looked up."""
    return {} if view.cache is None else {"X-Docling-Cache": view.cache}


async def result_response(services: Services, view: TaskView, tenant: str) -> Response:
    reply = await _reply(services, view, tenant)
    headers = result_headers(view)
    background = fetched(services, view.task_id)
    if reply.path is None:
        if reply.download_name is not None:
            headers["Content-Disposition"] = f'attachment; filename="{reply.download_name}"'
        return Response(
            reply.content, headers=headers, media_type=reply.media_type, background=background
        )
    try:
        # A download has a file name, which FileResponse encodes correctly.
        small = reply.download_name is None
        limit = _SMALL_BYTES if small else 0
        body: IO[bytes] | bytes | None = read_now(reply.path, limit)
        if body is None:
            body = await asyncio.to_thread(_open, reply.path, limit)
    except FileNotFoundError:  # it expired just now
        raise TaskNotFoundError from None
    if isinstance(body, bytes):
        return Response(body, headers=headers, media_type=reply.media_type, background=background)
    return OpenFileResponse(
        body,
        media_type=reply.media_type,
        filename=reply.download_name,
        headers=headers,
        background=background,
    )


async def _reply(services: Services, view: TaskView, tenant: str) -> Reply:
    reply = await services.engine.reply(view.task_id, tenant)
    if reply is None:
        raise HTTPException(404, _NOT_YET)
    return reply


def read_now(path: Path, limit: int) -> bytes | None:
    """The content of a file of at most ``limit`` bytes, if it is in the page cache, as a reply that
    a worker has just written is; None for any other. Waits for no disk.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not limit:
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        content = bytearray(min(os.fstat(descriptor).st_size, limit + 1))
        read = os.preadv(descriptor, [content], 0, os.RWF_NOWAIT)
    except OSError:  # not in the cache, or a file system that cannot tell
        return None
    finally:
        os.close(descriptor)
    return bytes(content) if read == len(content) <= limit else None


def _open(path: Path, small_bytes: int) -> IO[bytes] | bytes:
    """The file, or its content up to ``small_bytes``: streaming uses a thread four times."""
    file = path.open("rb")
    if os.fstat(file.fileno()).st_size > small_bytes:
        return file
    with file:
        return file.read()


class OpenFileResponse(FileResponse):
    """Sends a file that may be unlinked meanwhile: an expired result is removed even while it is
    being read."""

    def __init__(self, file: IO[bytes], **options: Any) -> None:
        super().__init__(f"/proc/self/fd/{file.fileno()}", **options)
        self._file = file  # closed with the response


async def _wait(
    services: Services, submission: Submission, view: TaskView, request: Request
) -> TaskView:
    """Wait until the task finishes, the allowed time is up, or the client disconnects."""
    limit = services.settings.max_sync_wait
    finished = asyncio.ensure_future(
        services.engine.wait_finished(view.task_id, submission.tenant, limit)
    )
    gone = asyncio.ensure_future(_client_gone(request))
    try:
        await asyncio.wait({finished, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not finished.done():
            cancels = services.settings.sync_cancel_on_disconnect
            await _give_up(services, submission, view, cancels)
            raise HTTPException(499, "The client closed the connection.")
        return finished.result()
    finally:
        finished.cancel()
        gone.cancel()


async def _too_long(services: Services, view: TaskView, submission: Submission) -> JSONResponse:
    """504 in the words that clients know (upstream F56), and what happened to the task."""
    cancels = services.settings.sync_cancel_on_timeout
    cancelled = await _give_up(services, submission, view, cancels)
    detail = (
        "Conversion is taking too long. The maximum wait time is configure as "
        f"DOCLING_SERVE_MAX_SYNC_WAIT={services.settings.max_sync_wait}."
    )
    became = "cancelled" if cancelled else "running"
    return JSONResponse({"detail": detail, "task_id": view.task_id, "task": became}, 504)


async def _give_up(
    services: Services, submission: Submission, view: TaskView, cancels: bool
) -> bool:
    """No client waits for the task any more: stop it, or let it continue. Whether it stopped."""
    if not cancels or submission.idempotency_key is not None:
        return False
    cause = Failure("policy", "The synchronous request ended before the task did.")
    ended = await services.engine.cancel(view.task_id, submission.tenant, cause)
    return ended.failure is not None and ended.failure.message == cause.message


async def _client_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def fetched(services: Services, task_id: str) -> BackgroundTask:
    """What is done after an answer with the result of a task."""
    return BackgroundTask(services.engine.on_result_fetched, task_id)


def _pages(view: TaskView) -> int | None:
    if view.result is not None:
        return view.result.num_pages or None
    return (view.progress.total_pages or None) if view.progress is not None else None


def _meta(view: TaskView) -> TaskProcessingMeta | None:
    if view.progress is None and view.result is None:
        return None
    if view.result is not None:
        return TaskProcessingMeta(
            num_docs=view.result.num_converted,
            num_processed=view.result.num_converted,
            num_succeeded=view.result.num_succeeded,
            num_partially_succeeded=view.result.num_partially_succeeded,
            num_failed=view.result.num_failed,
        )
    assert view.progress is not None
    return TaskProcessingMeta(
        num_docs=view.progress.num_docs,
        num_processed=view.progress.document - 1,
        phase=view.progress.phase,
        document=view.progress.document,
        completed_pages=view.progress.completed_pages,
        total_pages=view.progress.total_pages or None,
    )
