"""Convert one document over REST, in each of the ways that a client may choose."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import httpx

from .plan import Step
from .server import TASK_WITHIN_S, DemoError

POLL_WAIT_S = 1.0


class Client:
    """Talks to the server at ``url``."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=TASK_WITHIN_S + 10)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def convert(self, step: Step, on_state: Callable[[str], None]) -> str:
        """The document's text as Markdown; ``on_state`` gets the state of the task.

        Raises:
            DemoError: the server refused, failed, or converted only in part.
        """
        try:
            on_state("sent")
            if step.answer == "sync":
                result = self._send(step, "")
            else:
                result = self._poll(self._send(step, "/async")["task_id"], on_state)
        except httpx.HTTPError as exc:
            raise DemoError(f"{type(exc).__name__}: {exc}") from exc
        if result.get("status") != "success":
            raise DemoError(f"status {result.get('status')}: {result.get('errors')}")
        return str(result["document"]["md_content"])

    def _send(self, step: Step, suffix: str) -> dict[str, Any]:
        content = step.path.read_bytes()
        if step.send == "upload":
            return _body(
                self._http.post(
                    f"/v1/convert/file{suffix}", files={"files": (step.document, content)}
                )
            )
        source = {
            "kind": "file",
            "filename": step.document,
            "base64_string": base64.b64encode(content).decode(),
        }
        return _body(self._http.post(f"/v1/convert/source{suffix}", json={"sources": [source]}))

    def _poll(self, task_id: str, on_state: Callable[[str], None]) -> dict[str, Any]:
        deadline = time.monotonic() + TASK_WITHIN_S
        while time.monotonic() < deadline:
            task = _body(self._http.get(f"/v1/status/poll/{task_id}", params={"wait": POLL_WAIT_S}))
            on_state(task["task_status"])
            if task["task_status"] == "failure":
                raise DemoError(f"the task failed: {task['error_message']}")
            if task["task_status"] == "success":
                return _body(self._http.get(f"/v1/result/{task_id}"))
        raise DemoError(f"no answer within {TASK_WITHIN_S} s")


def _body(response: httpx.Response) -> dict[str, Any]:
    if response.status_code != 200:
        raise DemoError(f"HTTP {response.status_code}: {response.text[:300]}")
    body: dict[str, Any] = response.json()
    return body
