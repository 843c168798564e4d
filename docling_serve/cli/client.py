"""Commands that speak to a running server: convert files, watch a task.

docling's own client is no substitute: importing it imports torch (3.0 s of processor time and 645
MiB, against 0.1 s and 30 MiB here), and it knows no events, so it shows no pages.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_console = Console(stderr=True, highlight=False, soft_wrap=True)

_FIELDS = {
    "md": "md_content",
    "json": "json_content",
    "html": "html_content",
    "text": "text_content",
    "doctags": "doctags_content",
}
_SUFFIXES = {"text": "txt"}
_CONNECT_RETRIES = 5  # httpx waits longer before each
_RECONNECTS = 20
#: Longer than the pause between two heartbeats of the server.
_SILENCE_S = 60.0

Url = Annotated[
    str, typer.Option(help="Where the server is.", envvar="DOCLING_SERVE_URL", show_envvar=True)
]
ApiKey = Annotated[
    str, typer.Option(help="Key of the server.", envvar="DOCLING_SERVE_API_KEY", show_default=False)
]
_DEFAULT_URL = "http://127.0.0.1:5001"


def convert(
    files: Annotated[list[Path], typer.Argument(help="Documents.", exists=True, dir_okay=False)],
    to: Annotated[list[str], typer.Option(help=f"Formats: {', '.join(_FIELDS)}.")] = ["md"],  # noqa: B006
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results; without it, standard output.")
    ] = None,
    option: Annotated[
        list[str],
        typer.Option(help="An option of the request as name=value; may be given several times."),
    ] = [],  # noqa: B006
    url: Url = _DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Convert files at a running server, showing how far it is."""
    unknown = [name for name in to if name not in _FIELDS]
    if unknown:
        raise typer.BadParameter(f"unknown format {unknown[0]!r}", param_hint="--to")
    form: dict[str, list[str]] = {}
    for name, value in map(_pair, option):
        form.setdefault(name, []).append(value)
    form |= {"to_formats": to, "target_type": ["inbody"]}
    failed = False
    taken: set[Path] = set()
    with _connected(url, api_key) as client, _progress() as progress:
        submitted = [(path, _submit(client, path, form)) for path in files]
        for path, task_id in submitted:
            status = _follow(
                client, task_id, progress, progress.add_task(path.name, total=None, state="")
            )
            reply = client.get(f"/v1/result/{task_id}").raise_for_status().json()
            problems = _problems(status, reply)
            if problems:
                failed = True
                progress.console.print(f"[red]{path}[/]: {problems}", soft_wrap=True)
            if "document" in reply:
                _save(reply["document"], path, to, output, taken)
    raise typer.Exit(int(failed))


def watch(
    task_id: Annotated[str, typer.Argument(help="The task, as the server named it.")],
    url: Url = _DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Show how far a task is, until it has ended."""
    with _connected(url, api_key) as client, _progress() as progress:
        status = _follow(
            client, task_id, progress, progress.add_task(task_id, total=None, state="")
        )
        if status["task_status"] == "failure":
            progress.console.print(f"[red]{status['error_message']}[/]", soft_wrap=True)
    raise typer.Exit(int(status["task_status"] == "failure"))


@contextmanager
def _connected(url: str, api_key: str) -> Iterator[httpx.Client]:
    """A client of the server; what goes wrong ends the command with one line."""
    headers = {"X-Api-Key": api_key} if api_key else {}
    transport = httpx.HTTPTransport(retries=_CONNECT_RETRIES)
    timeout = httpx.Timeout(_SILENCE_S, write=None)
    try:
        with httpx.Client(
            base_url=url, headers=headers, timeout=timeout, transport=transport
        ) as client:
            yield client
    except httpx.HTTPStatusError as exc:
        exc.response.read()
        _console.print(f"[red]{url} answered {exc.response.status_code}[/]: {exc.response.text}")
        raise typer.Exit(1) from exc
    except httpx.TransportError as exc:
        _console.print(f"[red]{url} cannot be reached[/]: {exc}")
        raise typer.Exit(1) from exc


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=_console)


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise typer.BadParameter(f"{text!r} is not name=value", param_hint="--option")
    return name, value


def _submit(client: httpx.Client, path: Path, form: dict[str, list[str]]) -> str:
    """The id of the task; a server that has no room now is asked again when it says."""
    while True:
        with path.open("rb") as file:
            reply = client.post(
                "/v1/convert/file/async", files={"files": (path.name, file)}, data=form
            )
        pause = reply.headers.get("Retry-After", "")
        if reply.status_code == httpx.codes.TOO_MANY_REQUESTS and pause.isdecimal():
            _console.print(f"{path.name}: the queue is full, trying again in {pause} s")
            time.sleep(int(pause))
            continue
        task_id: str = reply.raise_for_status().json()["task_id"]
        return task_id


def _follow(client: httpx.Client, task_id: str, progress: Progress, bar: TaskID) -> dict[str, Any]:
    """Show each state until the last one, which is returned."""
    for status in _states(client, task_id):
        meta = status["task_meta"] or {}
        state = status["task_status"]
        if state == "pending":
            state = f"waiting, position {status['task_position']}"
        elif meta.get("phase"):
            state = meta["phase"]
        done, total = meta.get("completed_pages"), meta.get("total_pages")
        if total:
            state = f"{state}, page {done} of {total}"
            progress.update(bar, completed=done, total=total)
        progress.update(bar, state=state)
    finished = progress.tasks[bar].total or 1
    progress.update(bar, completed=finished, total=finished)
    return status


def _states(client: httpx.Client, task_id: str) -> Iterator[dict[str, Any]]:
    """The states of a task. A connection that breaks is made anew, after the last event."""
    from httpx_sse import connect_sse  # noqa: PLC0415 - not needed by the server

    last_id = ""
    for left in reversed(range(_RECONNECTS)):
        headers = {"Last-Event-ID": last_id} if last_id else {}
        try:
            with connect_sse(
                client, "GET", f"/v1/tasks/{task_id}/events", headers=headers
            ) as source:
                source.response.raise_for_status()
                for event in source.iter_sse():
                    if not event.data:  # httpx-sse also gives the comments of a quiet stream
                        continue
                    last_id = event.id
                    yield json.loads(event.data)
                    if event.event == "end":
                        return
        except httpx.TransportError:
            if not left:
                raise
    raise httpx.ReadError(f"the server ended the stream of task {task_id} again and again")


def _problems(status: dict[str, Any], reply: dict[str, Any]) -> str:
    """What went wrong with the task, or with its document."""
    if status["task_status"] == "failure":
        return str(status["error_message"])
    if reply.get("status") in ("success", "partial_success"):
        return ""
    told = "; ".join(error["error_message"] for error in reply.get("errors", []))
    return told or f"no document came back ({reply.get('status', 'without a status')})"


def _save(
    document: dict[str, Any],
    path: Path,
    formats: list[str],
    output: Path | None,
    taken: set[Path],
) -> None:
    """Print a document, or write it below ``output``, beside what this command has written."""
    for name in formats:
        content = document[_FIELDS[name]]
        if content is None:
            continue
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        if output is None:
            print(text)
        else:
            output.mkdir(parents=True, exist_ok=True)
            target = _apart(output, path, _SUFFIXES.get(name, name), taken)
            target.write_text(text, encoding="utf-8")


def _apart(output: Path, path: Path, suffix: str, taken: set[Path]) -> Path:
    """A name that no other document of this command has: those of one name get a number."""
    target, number = output / f"{path.name}.{suffix}", 1
    while target in taken:
        number += 1
        target = output / f"{path.stem}-{number}{path.suffix}.{suffix}"
    taken.add(target)
    return target
