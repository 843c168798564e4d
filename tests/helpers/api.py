"""The REST interface as a test uses it: send documents, wait for a task, read results."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

DOCUMENTS = Path(__file__).parents[2] / "examples" / "documents"
EXPECTED: dict[str, dict[str, Any]] = json.loads((DOCUMENTS / "expected.json").read_text())

#: A scan with four words. OCR of it takes a fourth of what it takes for ``scan.png``: the document
#: for tests that need some OCR and do not care of what.
SLIP = "slip.png"
_SLIP_FILE = Path(__file__).with_name(SLIP)
#: Words known to be in each of them.
PHRASES: dict[str, list[str]] = {
    **{name: each["phrases"] for name, each in EXPECTED.items()},
    SLIP: ["Ferry ticket", "Lost property"],
}

#: No answer takes this long; a request that does is stuck.
REQUEST_LIMIT_S = 120.0

Part = tuple[str, tuple[str, bytes]]


def document(name: str) -> bytes:
    """An example document, or the slip."""
    return (_SLIP_FILE if name == SLIP else DOCUMENTS / name).read_bytes()


def upload(name: str, content: bytes | None = None) -> Part:
    """A part of a multipart request: an example document, or ``content`` under ``name``."""
    return "files", (name, document(name) if content is None else content)


def base64_source(name: str, content: bytes | None = None) -> dict[str, str]:
    """The same as a JSON source."""
    data = document(name) if content is None else content
    return {
        "kind": "file",
        "filename": name,
        "base64_string": base64.b64encode(data).decode(),
    }


def missing_phrases(name: str, text: str) -> list[str]:
    """Which of the words known to be in the example ``name`` are not in ``text``."""
    words = " ".join(text.split())
    return [phrase for phrase in PHRASES[name] if phrase not in words]


class Api:
    """Requests to one server. Every method that names a task takes its id."""

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.http = httpx.Client(
            base_url=base_url,
            headers=headers,
            timeout=REQUEST_LIMIT_S,
            trust_env=False,
            verify=tls or True,
        )

    def convert(
        self, *files: Part, form: Mapping[str, Any] | None = None, **headers: str
    ) -> httpx.Response:
        """Convert uploads and wait for the reply. Header names are written with underscores."""
        return self.http.post(
            "/v1/convert/file", files=list(files), data=form, headers=_names(headers)
        )

    def convert_source(self, *sources: Mapping[str, Any], **body: Any) -> httpx.Response:
        """Convert JSON sources and wait for the reply."""
        return self.http.post("/v1/convert/source", json={"sources": list(sources), **body})

    def submit(self, *files: Part, form: Mapping[str, Any] | None = None, **headers: str) -> str:
        """Submit uploads as a task; returns its id."""
        reply = self.http.post(
            "/v1/convert/file/async", files=list(files), data=form, headers=_names(headers)
        )
        assert reply.status_code == 200, reply.text
        return str(reply.json()["task_id"])

    def poll(self, task_id: str, wait_s: float = 0.0) -> dict[str, Any]:
        """Where the task stands."""
        reply = self.http.get(f"/v1/status/poll/{task_id}", params={"wait": wait_s})
        assert reply.status_code == 200, reply.text
        status: dict[str, Any] = reply.json()
        return status

    def finish(self, task_id: str) -> dict[str, Any]:
        """Wait for the end of the task, in one request."""
        status = self.poll(task_id, wait_s=REQUEST_LIMIT_S - 10)
        assert status["task_status"] in ("success", "failure"), status
        return status

    def succeed(self, task_id: str) -> dict[str, Any]:
        """Wait for the task, which must succeed, and read its in-body result."""
        status = self.finish(task_id)
        assert status["task_status"] == "success", status
        reply = self.result(task_id)
        assert reply.status_code == 200, reply.text
        body: dict[str, Any] = reply.json()
        return body

    def result(self, task_id: str) -> httpx.Response:
        """The result of the task."""
        return self.http.get(f"/v1/result/{task_id}")

    def get(self, path: str, **params: Any) -> httpx.Response:
        """Any other request."""
        return self.http.get(path, params=params)


def _names(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
