"""What programs that deployments know send, each as it sends it, to a server that asks for a key.

``data/clients.json`` says where each comes from. Its ``reads`` are what the program reads of an
answer: ``<text>`` stands for the words of the document, ``<set>`` for anything but null.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import MODES, StartServer
from tests.helpers.api import base64_source, document, missing_phrases
from tests.helpers.eventually import eventually
from tests.helpers.server import RunningServer

_RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data" / "clients.json").read_text(encoding="utf-8")
)
CLIENTS: list[dict[str, Any]] = _RECORDED["clients"]
_PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
_IN_BASE64 = "<base64 of "
_TASK_LIMIT_S = 120.0


@pytest.fixture(scope="module")
def keyed_server(mode: str, serve: StartServer) -> Iterator[RunningServer]:
    """A server that asks for the key of the recordings."""
    settings = {
        "DOCLING_SERVE_API_KEY": _RECORDED["key"],
        "DOCLING_SERVE_ALLOW_CUSTOM_LAYOUT_CONFIG": "true",
        "DOCLING_SERVE_ENABLE_EXTERNAL_LOADER_API": "true",
        "DOCLING_SERVE_ENABLE_TIKA_API": "true",
        "DOCLING_SERVE_ENABLE_MISTRAL_API": "true",
    }
    with serve(MODES[mode] | settings) as running:
        yield running


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: str(client["client"]))
def test_client(keyed_server: RunningServer, client: dict[str, Any]) -> None:
    known: dict[str, str] = {}
    document_name = _document_of(client)
    for step in client["steps"]:
        reply = _send(keyed_server, _filled(step, known))
        assert reply.status_code == step["status"], f"{step['path']}: {reply.text[:1000]}"
        assert reply.headers.get("x-docling-ignored-fields") == step.get("ignored")
        if "entries" in step:
            with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
                assert set(step["entries"]) <= set(archive.namelist())
        if "text" in step:
            _check("text", reply.text, step["text"], document_name)
        for path, expected in step.get("reads", {}).items():
            _check(path, _read(reply.json(), path), expected, document_name)
        if reply.headers["content-type"] == "application/json" and step["method"] == "POST":
            known["task_id"] = reply.json().get("task_id", known.get("task_id"))
        for name, path in step.get("remember", {}).items():
            known[name] = _read(reply.json(), path)


def test_the_sources_of_the_recordings_are_named() -> None:
    assert [client["client"] for client in CLIENTS if not client["source"]] == []
    names = [client["client"] for client in CLIENTS]
    assert sorted(set(names)) == sorted(names)


def test_the_page_on_clients_names_the_recordings() -> None:
    """Each recording is held by a row of the page, and no row names one that is not there."""
    rows = [row for row in _PAGE.read_text(encoding="utf-8").splitlines() if "Recorded: " in row]
    cells = [row.split("Recorded: ")[1].removesuffix(" |").split(". ")[0] for row in rows]
    named = [name.removesuffix(".") for cell in cells for name in cell.split("; ")]
    assert sorted(named) == sorted(client["client"] for client in CLIENTS)


def _filled(step: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    """``step`` with what is known in place of the names in braces."""
    text = json.dumps(step)
    for name, value in known.items():
        text = text.replace(f"{{{name}}}", str(value))
    filled: dict[str, Any] = json.loads(text)
    return filled


def _send(server: RunningServer, step: dict[str, Any]) -> httpx.Response:
    request: dict[str, Any] = {key: step[key] for key in ("method", "headers")}
    request["url"] = step["path"]
    if "json" in step:
        request["json"] = _with_documents(step["json"])
    elif "body" in step:
        request["content"] = document(step["body"]["document"])
    elif "file" in step:
        # Parts without a file name are fields; a list keeps their order and repeats them.
        file = step["file"]
        content = document(file["document"])
        request["files"] = [
            *((name, (None, value.encode())) for name, value in step.get("form", ())),
            (file.get("field", "files"), (file["filename"], content, file["type"])),
        ]
    replies: list[httpx.Response] = []

    def has_ended() -> bool:
        replies.append(server.api.http.request(**request))
        state = replies[-1].json().get(step["until"]) if "until" in step else None
        return state not in ("pending", "started")

    eventually(has_ended, within_s=_TASK_LIMIT_S, what=f"the end of {step['path']}")
    return replies[-1]


def _document_of(client: dict[str, Any]) -> str:
    """The example that the client sends."""
    text = json.dumps(client)
    names = ("scan.png", "scan.pdf", "page.html", "notes.md", "letter.docx")
    return next(
        name
        for name in names
        if f'"document": "{name}"' in text or f"{_IN_BASE64}{name}>" in text or name == names[-1]
    )


def _with_documents(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_documents(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_documents(item) for item in value]
    if isinstance(value, str) and value.startswith(_IN_BASE64):
        return base64_source(value.removeprefix(_IN_BASE64).removesuffix(">"))["base64_string"]
    return value


def _read(body: Any, path: str) -> Any:
    for name in path.split("."):
        body = body[int(name)] if isinstance(body, list) else body[name]
    return body


def _check(path: str, value: Any, expected: Any, document_name: str) -> None:
    if expected == "<text>":
        assert missing_phrases(document_name, value) == [], path
    elif expected == "<set>":
        assert value is not None, path
    else:
        assert value == expected, path
