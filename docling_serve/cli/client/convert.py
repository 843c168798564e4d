"""``docling-serve convert``: documents in, results out, with the progress of each."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from docling_serve.cli.client import request_options
from docling_serve.cli.client.connection import (
    DEFAULT_URL,
    ApiKey,
    Url,
    connected,
    console,
    refusal,
)
from docling_serve.cli.client.following import Status, follow, pages, stage_text
from docling_serve.cli.client.inputs import Source, expand
from docling_serve.cli.client.results import FIELDS, Folder, OneFile, Outcome, texts

#: Documents that are sent and followed at once. The server decides how many convert in parallel.
_AT_ONCE = 8
_INTERRUPTED = 130  # as shells report a command that SIGINT ended


def _complete_format(begun: str) -> list[str]:
    return [name for name in FIELDS if name.startswith(begun)]


Sources = Annotated[
    list[str],
    typer.Argument(help="Files, folders, URLs, or - for standard input.", show_default=False),
]
To = Annotated[
    list[str],
    typer.Option(
        "--to",
        "-t",
        help=f"Formats, repeated or separated by commas: {', '.join(FIELDS)}.",
        autocompletion=_complete_format,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder for the results, or a file for a single one; without it, standard output.",
    ),
]
Option = Annotated[
    list[str],
    typer.Option(
        "--option",
        "-O",
        help="An option of the request as name=value; repeat it for more.",
        autocompletion=request_options.complete,
    ),
]
Ocr = Annotated[bool | None, typer.Option("--ocr/--no-ocr", help="Recognise text in images.")]
ForceOcr = Annotated[
    bool, typer.Option("--force-ocr", help="Recognise text even where a PDF has some.")
]
Pages = Annotated[str | None, typer.Option("--pages", help="First and last page, such as 1-3.")]
Name = Annotated[str, typer.Option(help="File name of standard input, which gives its format.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a line of JSON for each document.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress, only failures.")]


def convert(
    sources: Sources,
    to: To = ["md"],  # noqa: B006
    output: Output = None,
    option: Option = [],  # noqa: B006
    ocr: Ocr = None,
    force_ocr: ForceOcr = False,
    page_range: Pages = None,
    name: Name = "stdin.pdf",
    as_json: AsJson = False,
    quiet: Quiet = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = "",
) -> None:
    """Convert documents at a running server, and show the progress of each.

    Ctrl-C asks the server to stop the tasks. Exits with 1 if a document failed.
    """
    formats = _formats(to)
    options = request_options.parse(option)
    if ocr is not None:
        options["do_ocr"] = [str(ocr).lower()]
    if force_ocr:
        options["force_ocr"] = ["true"]
    if page_range is not None:
        options["page_range"] = _page_range(page_range)
    found = expand(sources, name)
    target = _target(output, found, formats)
    with connected(url, api_key) as client, _progress(quiet) as progress:
        failed = False
        for outcome in _Run(client, formats, options, target, progress).all(found):
            failed = failed or outcome.error is not None
            _report(outcome, formats, progress, as_json=as_json, to_stdout=target is None)
    raise typer.Exit(int(failed))


def _formats(words: Sequence[str]) -> list[str]:
    formats = [item.strip() for word in words for item in word.split(",")]
    for each in formats:
        if each not in FIELDS:
            raise typer.BadParameter(
                f"unknown format {each!r}; choose from {', '.join(FIELDS)}", param_hint="--to"
            )
    return formats


def _page_range(text: str) -> list[str]:
    first, _, last = text.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal():
        raise typer.BadParameter(
            f"{text!r} is not a page or range, such as 3 or 1-3", param_hint="--pages"
        )
    return [first, last or first]


def _target(
    output: Path | None, sources: Sequence[Source], formats: Sequence[str]
) -> Folder | OneFile | None:
    if output is None:
        return None
    if output.suffix and not output.is_dir():
        if len(sources) * len(formats) > 1:
            raise typer.BadParameter(
                f"{str(output)!r} is a single file, but there are several results",
                param_hint="--output",
            )
        return OneFile(output)
    return Folder(output)


def _progress(quiet: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, disable=quiet)


def _report(
    outcome: Outcome, formats: Sequence[str], progress: Progress, *, as_json: bool, to_stdout: bool
) -> None:
    if outcome.error is not None:
        shown = f"[red]{escape(outcome.source.shown)}: failed:[/] {escape(outcome.error)}"
        progress.console.print(shown)
    if as_json:
        print(outcome.line(), flush=True)
    elif to_stdout and outcome.document is not None:
        for text in texts(outcome.document, formats).values():
            print(text, flush=True)


class _Run:
    """The documents of one command."""

    def __init__(
        self,
        client: httpx.Client,
        formats: Sequence[str],
        options: request_options.Options,
        target: Folder | OneFile | None,
        progress: Progress,
    ) -> None:
        self._client, self._formats, self._options = client, formats, options
        self._target, self._progress = target, progress
        self._unfinished: set[str] = set()
        self._stopping = threading.Event()

    def all(self, sources: Sequence[Source]) -> Iterator[Outcome]:
        """The outcomes, in the order of ``sources``. On Ctrl-C the tasks are cancelled."""
        with ThreadPoolExecutor(min(_AT_ONCE, len(sources))) as threads:
            waiting: list[Future[Outcome]] = [
                threads.submit(self._one, source, stem)
                for source, stem in zip(sources, self._stems(sources), strict=True)
            ]
            try:
                for each in waiting:
                    yield each.result()
            except BaseException as exc:
                self._stopping.set()
                threads.shutdown(wait=False, cancel_futures=True)
                self._cancel()
                if isinstance(exc, KeyboardInterrupt):
                    raise typer.Exit(_INTERRUPTED) from exc
                raise

    def _cancel(self) -> None:
        with contextlib.suppress(KeyError):  # another thread took the last one
            while True:
                task_id = self._unfinished.pop()
                try:
                    stopped = self._client.delete(f"/v1/tasks/{task_id}").is_success
                except httpx.TransportError:
                    stopped = False
                done = "asked the server to stop" if stopped else "the server did not stop"
                self._progress.console.print(f"{done} task {task_id}")

    def _stems(self, sources: Sequence[Source]) -> Sequence[str]:
        if self._target is None:
            return [""] * len(sources)
        return self._target.stems(sources, self._formats)

    def _one(self, source: Source, stem: str) -> Outcome:
        bar = self._progress.add_task(escape(source.name), total=None, state="sending")
        task_id = None
        try:
            task_id = self._submit(source, bar)
            self._unfinished.add(task_id)
            if self._stopping.is_set():  # it was being sent when the others were cancelled
                self._cancel()
            status = follow(self._client, task_id, lambda status: self._show(bar, status))
            reply = self._client.get(f"/v1/result/{task_id}").raise_for_status().json()
            outcome = self._save(source, stem, task_id, status, reply)
        except httpx.HTTPStatusError as exc:
            outcome = Outcome(source, task_id, refusal(exc))
        except OSError as exc:
            outcome = Outcome(source, task_id, f"{exc.filename}: {exc.strerror}")
        if task_id is not None:
            self._unfinished.discard(task_id)
        total = self._progress.tasks[bar].total or 1
        state = escape(outcome.stage) if outcome.error is None else "[red]failed"
        if self._stopping.is_set():
            state = "stopped"
        self._progress.update(bar, completed=total, total=total, state=state)
        return outcome

    def _show(self, bar: TaskID, status: Status) -> None:
        done = pages(status)
        if done:
            self._progress.update(bar, completed=done[0], total=done[1])
        self._progress.update(bar, state=escape(stage_text(status)))

    def _submit(self, source: Source, bar: TaskID) -> str:
        """The id of the task. If the queue is full, retries when the server says to."""
        while True:
            reply = self._post(source)
            pause = reply.headers.get("Retry-After", "")
            if reply.status_code == httpx.codes.TOO_MANY_REQUESTS and pause.isdecimal():
                self._progress.update(bar, state=f"the queue is full, trying again in {pause} s")
                if self._stopping.wait(int(pause)):
                    reply.raise_for_status()
                continue
            task_id: str = reply.raise_for_status().json()["task_id"]
            return task_id

    def _post(self, source: Source) -> httpx.Response:
        if source.url is not None:
            options = {**request_options.as_json(self._options), "to_formats": self._formats}
            sources = [{"kind": "http", "url": source.url}]
            body = {"options": options, "sources": sources, "target": {"kind": "inbody"}}
            return self._client.post("/v1/convert/source/async", json=body)
        form: dict[str, Any] = {**self._options, "to_formats": self._formats}
        form["target_type"] = "inbody"
        files = {"files": (source.name, source.read())}
        return self._client.post("/v1/convert/file/async", files=files, data=form)

    def _save(
        self, source: Source, stem: str, task_id: str, status: Status, reply: dict[str, Any]
    ) -> Outcome:
        document = reply.get("document") or {}
        contents = texts(document, self._formats)
        files: list[Path] = []
        if self._target is not None and contents:
            files = self._target.write(stem, contents)
        return Outcome(
            source,
            task_id,
            _problem(status, reply),
            stage_text(status),
            files,
            document or None,
            status.get("waited_s"),
            status.get("converted_s"),
        )


def _problem(status: Status, reply: dict[str, Any]) -> str | None:
    """What went wrong with the task, or with its document."""
    if status["task_status"] == "failure":
        return str(status["error_message"])
    if reply.get("status") in ("success", "partial_success"):
        return None
    said = "; ".join(error["error_message"] for error in reply.get("errors", []))
    return said or f"no document came back ({reply.get('status', 'without a status')})"
