"""The operations of a REST API user, timed."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

import httpx
from typing_extensions import Self

from benchmarks.inputs import Document

ANSWER_WITHIN_S = 900.0
Options = Mapping[str, "str | list[str]"]
POLL_S = 0.05
_PROBE_EVERY_S = 0.02


class RequestFailed(Exception):
    """A server answered with something other than a converted document."""


@dataclass(frozen=True)
class Timing:
    """Seconds from the request to the whole answer, and how many of them were conversion."""

    wall_s: float
    work_s: float

    @property
    def rest_s(self) -> float:
        """Seconds spent outside conversion."""
        return self.wall_s - self.work_s


@dataclass(frozen=True)
class Load:
    """Documents converted concurrently: the total time, and what was in them."""

    seconds: float
    documents: int
    pages: int

    @property
    def pages_per_s(self) -> float:
        """Pages per second."""
        return self.pages / self.seconds


class Client:
    """Talks to the server at ``url`` over keep-alive connections; may be shared by threads."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=ANSWER_WITHIN_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def convert(self, document: Document) -> Timing:
        """Convert synchronously.

        Raises:
            RequestFailed: the document was not converted.
        """
        started = time.perf_counter()
        reply = self._http.post("/v1/convert/file", files=_files(document))
        wall_s = time.perf_counter() - started
        body = _checked(reply).json()
        if body["status"] != "success":
            raise RequestFailed(f"{document.name}: {body['status']}, {body['errors']}")
        return Timing(wall_s, float(body["processing_time"]))

    def submit(self, document: Document, options: Options | None = None) -> str:
        """Submit a document; returns the id of its task."""
        reply = self._http.post(
            "/v1/convert/file/async", files=_files(document), data=dict(options or {})
        )
        return str(_checked(reply).json()["task_id"])

    def wait(self, task: str) -> None:
        """Poll until the task has finished. Both servers are polled alike, every ``POLL_S``.

        Raises:
            RequestFailed: the task failed.
        """
        while True:
            status = _checked(self._http.get(f"/v1/status/poll/{task}")).json()
            if status["task_status"] == "failure":
                raise RequestFailed(f"task {task} failed: {status.get('error_message')}")
            if status["task_status"] == "success":
                return
            time.sleep(POLL_S)

    def fetch(self, task: str) -> int:
        """Read the result of a finished task and discard it; returns its bytes."""
        size = 0
        with self._http.stream("GET", f"/v1/result/{task}") as reply:
            for block in reply.iter_bytes():
                size += len(block)
            if reply.status_code != httpx.codes.OK:
                raise RequestFailed(f"task {task}: HTTP {reply.status_code}")
        return size

    def get(self, path: str) -> httpx.Response:
        """A plain GET."""
        return _checked(self._http.get(path))

    def run(self, document: Document) -> Timing:
        """Submit, poll, fetch; for loads in which upstream's synchronous wait must not count."""
        started = time.perf_counter()
        task = self.submit(document)
        self.wait(task)
        self.fetch(task)
        return Timing(time.perf_counter() - started, 0.0)

    def load(self, documents: Sequence[Document], concurrency: int) -> Load:
        """Convert all documents, ``concurrency`` at a time."""
        started = time.perf_counter()
        with ThreadPoolExecutor(concurrency) as threads:
            done = list(threads.map(self.run, documents))
        seconds = time.perf_counter() - started
        return Load(seconds, len(done), sum(document.pages for document in documents))

    def each(self, documents: Iterable[Document], once: Callable[[Document], None]) -> None:
        """Call ``once`` after each document."""
        for document in documents:
            self.run(document)
            once(document)


@contextmanager
def health_probe(port: int) -> Iterator[list[float]]:
    """Poll ``/health`` in the background on one keep-alive connection; seconds per answer.

    The list grows until the block ends.
    """
    answers: list[float] = []
    over = threading.Event()
    thread = threading.Thread(target=_probe, args=(port, answers, over), daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()


def _probe(port: int, answers: list[float], over: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    while not over.wait(_PROBE_EVERY_S):
        started = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        answers.append(time.perf_counter() - started)
    connection.close()


def _files(document: Document) -> dict[str, tuple[str, bytes]]:
    return {"files": (document.name, document.content)}


def _checked(reply: httpx.Response) -> httpx.Response:
    if reply.status_code != httpx.codes.OK:
        raise RequestFailed(
            f"{reply.request.url.path}: HTTP {reply.status_code} {reply.text[:300]}"
        )
    return reply
