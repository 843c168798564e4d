"""Commands that show tasks and workers of a server, and stop tasks."""

from __future__ import annotations

import json
import sys
from enum import Enum
from typing import Annotated, Any, NoReturn

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from docling_serve.cli.client.connection import (
    DEFAULT_URL,
    ApiKey,
    Url,
    connected,
    console,
    refusal,
)
from docling_serve.cli.client.following import Status, follow, pages, stage_text

_WIDTH = 160
#: As wide as the terminal; for a file, wide enough for all columns.
_out = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
_MIB = 1024**2

TaskIdArgument = Annotated[
    str, typer.Argument(help="The id of the task.", metavar="TASK", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class State(str, Enum):
    """States by which tasks can be listed."""

    PENDING = "pending"
    STARTED = "started"
    SUCCESS = "success"
    FAILURE = "failure"


def watch(task_id: TaskIdArgument, url: Url = DEFAULT_URL, api_key: ApiKey = "") -> None:
    """Show the progress of a task until it finishes. Exits with 1 if the task failed."""
    columns = (BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
    with connected(url, api_key) as client, Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=None, state="")

        def show(status: Status) -> None:
            if done := pages(status):
                progress.update(bar, completed=done[0], total=done[1])
            progress.update(bar, state=escape(stage_text(status)))

        try:
            status = follow(client, task_id, show)
        except httpx.HTTPStatusError as exc:
            _refuse(exc, task_id)
        total = progress.tasks[bar].total or 1
        progress.update(bar, completed=total, total=total)
        if not status:  # the server knows that this client has seen the end
            status = client.get(f"/v1/status/poll/{task_id}").raise_for_status().json()
        if status["task_status"] == "failure":
            progress.console.print(f"[red]failed:[/] {escape(str(status['error_message']))}")
    raise typer.Exit(int(status["task_status"] == "failure"))


def tasks(
    state: Annotated[State | None, typer.Option(help="Only tasks in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000)] = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """List your tasks, newest first."""
    query: dict[str, str | int] = {"limit": limit} | ({"state": state.value} if state else {})
    with connected(url, api_key) as client:
        listed = client.get("/v1/tasks", params=query).raise_for_status().json()["tasks"]
    if as_json:
        print(json.dumps(listed))
        return
    columns = (Column("Task", no_wrap=True), "State", "Documents", "Accepted")
    table = Table(*columns, box=None, pad_edge=False)
    for each in listed:
        table.add_row(
            each["task_id"],
            escape(each.get("error_message") or stage_text(each)),
            escape(_documents(each)),
            (each["created_at"] or "")[:19].replace("T", " "),
        )
    _out.print(table if listed else "There are no tasks.")


def _documents(task: dict[str, Any]) -> str:
    names = task.get("names") or []
    number = task.get("num_docs") or len(names) or (task.get("task_meta") or {}).get("num_docs")
    if not names:
        return str(number or "")
    more = f" and {number - 1} more" if number and number > 1 else ""
    return f"{names[0]}{more}"


def cancel(
    task_ids: Annotated[
        list[str], typer.Argument(help="Ids of tasks.", metavar="TASK...", show_default=False)
    ],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Stop tasks, waiting or running. Exits with 1 if one cannot be stopped."""
    failed = False
    with connected(url, api_key) as client:
        for task_id in task_ids:
            reply = client.delete(f"/v1/tasks/{task_id}")
            if reply.is_success:
                console.print(f"{escape(task_id)}: cancelled")
            elif reply.status_code == httpx.codes.NOT_FOUND:
                failed = True
                console.print(f"[red]error:[/] {_unknown(task_id)}")
            else:
                reply.raise_for_status()
    raise typer.Exit(int(failed))


def workers(as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: ApiKey = "") -> None:
    """List the worker processes with their memory. Needs enable_management_endpoints."""
    with connected(url, api_key) as client:
        reply = client.get("/v1/workers")
        if reply.status_code == httpx.codes.NOT_FOUND:
            console.print(
                "[red]error:[/] the server does not list its workers: set"
                " DOCLING_SERVE_ENABLE_MANAGEMENT_ENDPOINTS=true there"
            )
            raise typer.Exit(1)
        described = reply.raise_for_status().json()
    if as_json:
        print(json.dumps(described))
        return
    listed = described["workers"]
    on_hosts = any("host" in each for each in listed)
    table = Table(
        *(["Host"] if on_hosts else []),
        "Worker",
        "PID",
        "State",
        Column("Task", overflow="fold"),
        Column("Memory", no_wrap=True),
        Column("Peak", no_wrap=True),
        Column("GPU", no_wrap=True),
        box=None,
        pad_edge=False,
    )
    for each in listed:
        table.add_row(
            *([escape(each["host"])] if on_hosts else []),
            str(each["number"]),
            str(each["pid"] or ""),
            each["state"],
            each["task_id"] or "",
            _mib(each["rss_bytes"]),
            _mib(each["peak_rss_bytes"]),
            _mib(each["vram_bytes"]),
        )
    _out.print(table if listed else "No worker process is running.")


def _mib(size_bytes: int | None) -> str:
    return "" if size_bytes is None else f"{size_bytes / _MIB:.0f} MiB"


def _unknown(task_id: str) -> str:
    return f"the server knows no task {escape(task_id)}: it never had it, or its result has expired"


def _refuse(error: httpx.HTTPStatusError, task_id: str) -> NoReturn:
    unknown = error.response.status_code == httpx.codes.NOT_FOUND
    console.print(f"[red]error:[/] {_unknown(task_id) if unknown else escape(refusal(error))}")
    raise typer.Exit(1) from error
