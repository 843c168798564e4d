"""Recorded exchanges with docling-serve 1.38.2: read them, send them, compare the answers.

In recorded answers ``<volatile>``, ``<text>`` and ``<html>`` stand for anything of that kind. Two
things in requests are adapted to this server: the weight-free layout kind, which is ``full_page``
here, and the addresses of whoever receives callbacks and results.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.contract.documented import is_documented
from tests.helpers.documents import blank_pdf, scanned_pdf

_FOLDER = Path(__file__).parent / "data" / "recordings"
_ANYTHING = re.compile(r"<(volatile|text|html)>")
_SYNTHETIC = re.compile(r"<(\d+) bytes: synthetic (one|three)-page scan>")
_RECEIVER = "http://127.0.0.1:5161"


@dataclass(frozen=True)
class Exchange:
    """One recorded request with its answer."""

    recording: str
    number: int
    request: dict[str, Any]
    response: dict[str, Any]
    note: str = ""

    @property
    def id(self) -> str:
        """E.g. ``05/0``: the recording and the position in it."""
        return f"{self.recording[:2]}/{self.number}"


def recording(name: str) -> dict[str, Any]:
    """Everything of one recording, by the start of its name."""
    (path,) = _FOLDER.glob(f"{name}*.json")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def exchanges(name: str) -> list[Exchange]:
    """The requests and answers of one recording, in order."""
    return [
        Exchange(name, number, raw["request"], raw["response"], raw.get("note", ""))
        for number, raw in enumerate(recording(name)["exchanges"])
    ]


@dataclass
class Replay:
    """Turns exchanges into requests of ours; later ones may name the task of earlier ones."""

    receiver: str = _RECEIVER
    #: Whether scans have as many bytes as the recorded ones.
    sized: bool = False
    task_id: str = field(default="", init=False)

    def request(self, exchange: Exchange) -> dict[str, Any]:
        """The arguments of ``httpx.Client.request``."""
        recorded = self._adapted(exchange.request)
        request: dict[str, Any] = {
            "method": recorded["method"],
            "url": recorded["path"].replace("<task_id>", self.task_id),
            "headers": recorded.get("headers"),
        }
        if "raw_body" in recorded:
            request["content"] = recorded["raw_body"]
        elif "json" in recorded:
            request["json"] = recorded["json"]
        else:
            request["data"] = recorded.get("multipart_fields")
            request["files"] = [
                (part["field"], (part["filename"], self._content(part["content"])))
                for part in recorded.get("multipart_files", [])
            ]
        return request

    def note(self, reply: httpx.Response) -> None:
        """Remember the task that ``reply`` tells of."""
        if reply.headers.get("content-type") == "application/json":
            self.task_id = reply.json().get("task_id", "") or self.task_id

    def _adapted(self, request: dict[str, Any]) -> dict[str, Any]:
        text = json.dumps(request).replace(_RECEIVER, self.receiver)
        for quote in ('"', r"\""):
            kind = f"{quote}kind{quote}: {quote}"
            text = text.replace(f"{kind}plain{quote}", f"{kind}full_page{quote}")
        adapted: dict[str, Any] = json.loads(text)
        return adapted

    def _content(self, content: str) -> bytes:
        synthetic = _SYNTHETIC.fullmatch(content)
        if synthetic is None:
            return content.encode()
        size, pages = synthetic.groups()
        pdf = scanned_pdf() if pages == "one" else blank_pdf(3)
        # What follows the end mark of a PDF is ignored.
        return pdf.ljust(int(size), b"\n") if self.sized else pdf


#: What every status has in addition; ``stages`` in docs/differences.md.
STAGE_FIELDS = (
    "stage",
    "stage_text",
    "tasks_ahead",
    "expected_wait_s",
    "waited_s",
    "converted_s",
)


def unlike(expected: dict[str, Any], reply: httpx.Response) -> list[str]:
    """Where ``reply`` differs from a recorded answer; empty if nowhere."""
    found = [] if reply.status_code == expected["status"] else [f"status {reply.status_code}"]
    for name, value in expected.get("headers", {}).items():
        if reply.headers.get(name) != value:
            found.append(f"header {name}: {reply.headers.get(name)!r} is not {value!r}")
    if "zip_entries" in expected and not found:
        with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
            found += _unlike(expected["zip_entries"], sorted(archive.namelist()), "zip")
    if "text" in expected:
        found += _unlike(expected["text"], reply.text, "text")
    if "json" in expected and not found:
        found += _unlike(expected["json"], reply.json(), "")
    return found


def unlike_json(expected: Any, actual: Any) -> list[str]:
    """Where two JSON values differ."""
    return list(_unlike(expected, actual, ""))


def _unlike(expected: Any, actual: Any, where: str) -> Iterator[str]:
    if isinstance(expected, str) and _ANYTHING.fullmatch(expected):
        if actual is None:
            yield f"{where}: nothing, where there was {expected}"
    elif isinstance(expected, dict) and isinstance(actual, dict):
        listed = STAGE_FIELDS if "task_status" in expected and is_documented("stages") else ()
        for key in sorted((expected.keys() ^ actual.keys()).difference(listed)):
            yield f"{where}.{key}: {'missing' if key in expected else 'added'}"
        for key in expected.keys() & actual.keys():
            yield from _unlike(expected[key], actual[key], f"{where}.{key}")
    elif isinstance(expected, list) and isinstance(actual, list):
        yield from _unlike(dict(_named(expected)), dict(_named(actual)), where)
    elif expected != actual and not _is_reworded(expected, actual):
        yield f"{where}: {actual!r} is not {expected!r}"


def _is_reworded(expected: Any, actual: Any) -> bool:
    """Whether ``actual`` is our text in place of docling's; ``words`` in docs/differences.md."""
    if not (isinstance(expected, str) and isinstance(actual, str) and is_documented("words")):
        return False
    if expected.startswith("File format not allowed: "):
        return actual.startswith(f"{expected}. Accepted are ")
    return "could not load document" in expected and "is damaged or not a" in actual


def _named(items: list[Any]) -> Iterator[tuple[str, Any]]:
    """List items by their ``id``, so that their order does not matter, else by position."""
    for index, item in enumerate(items):
        yield (item["id"] if isinstance(item, dict) and "id" in item else str(index)), item
