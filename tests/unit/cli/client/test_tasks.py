"""Commands that look at tasks and workers, against a scripted server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.cli.client.scripted_server import FAILED, Script, invoke

TASK: dict[str, Any] = {
    "task_id": "d006ad47-d553-4a3f-ad61-f2c8598b4a71",
    "task_status": "started",
    "stage_text": "page 4 of 24",
    "task_meta": None,
    "error_message": None,
    "names": ["a.pdf", "b.pdf"],
    "num_docs": 2,
    "created_at": "2026-11-28T08:19:41.057000Z",
}
WORKER: dict[str, Any] = {
    "number": 1,
    "pid": 77,
    "state": "busy",
    "task_id": TASK["task_id"],
    "rss_bytes": 300 * 1024**2,
    "peak_rss_bytes": 400 * 1024**2,
    "vram_bytes": None,
}


def test_tasks_are_listed(url: str, script: Script) -> None:
    script.answers["/v1/tasks"] = (200, {"tasks": [TASK]})

    shown = invoke("tasks", "--url", url, "--state", "started", "-n", "5").stdout
    row = shown.splitlines()[1]
    assert TASK["task_id"] in row
    assert "page 4 of 24" in shown
    assert script.calls == ["GET /v1/tasks?limit=5&state=started"]
    assert json.loads(invoke("tasks", "--url", url, "--json").stdout) == [TASK]


def test_workers_are_listed_with_their_memory(url: str, script: Script) -> None:
    script.answers["/v1/workers"] = (200, {"workers": [WORKER]})

    shown = invoke("workers", "--url", url).stdout
    assert "300 MiB" in shown
    assert "400 MiB" in shown


def test_workers_that_the_server_does_not_list(url: str, script: Script) -> None:
    script.answers["/v1/workers"] = (404, {"detail": "Not Found"})
    ran = invoke("workers", "--url", url)

    assert ran.exit_code == 1
    assert "DOCLING_SERVE_ENABLE_MANAGEMENT_ENDPOINTS=true" in ran.output


def test_a_task_is_cancelled(url: str, script: Script) -> None:
    ran = invoke("cancel", "t1", "t2", "--url", url)

    assert ran.exit_code == 0
    assert script.calls == ["DELETE /v1/tasks/t1", "DELETE /v1/tasks/t2"]


def test_the_end_of_a_watched_task_is_the_exit_code(url: str, script: Script) -> None:
    assert invoke("watch", "t1", "--url", url).exit_code == 0
    script.streams = [FAILED]
    ran = invoke("watch", "t1", "--url", url)

    assert ran.exit_code == 1
    assert "failed: Too slow." in ran.output


@pytest.mark.parametrize("command", ["watch", "cancel"])
def test_an_unknown_task_is_one_line(url: str, script: Script, command: str) -> None:
    script.known = False
    ran = invoke(command, "t9", "--url", url)

    assert ran.exit_code == 1
    assert "the server knows no task t9" in ran.output
    assert "Traceback" not in ran.output
