"""A worker dies or hangs, at each point of its life: its task gets a clear answer, everything else
goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.conftest import FORKED, StartServer
from tests.helpers import server_processes as processes
from tests.helpers.api import SLIP, missing_phrases, upload
from tests.helpers.eventually import eventually
from tests.helpers.server import (
    NOTHING_KEPT,
    ORPHAN_LIMIT_S,
    START_LIMIT_S,
    SUBPROCESS_MODE,
    RunningServer,
)

NO_RETRIES = {"DOCLING_SERVE_SUBPROCESS_RETRIES": "0"}


def test_the_task_of_a_worker_that_dies_fails_and_the_next_one_works(
    start_server: StartServer,
) -> None:
    server = start_server(SUBPROCESS_MODE | NOTHING_KEPT | NO_RETRIES)
    task, waiting = server.api.submit(upload("scan.pdf")), server.api.submit(upload(SLIP))
    os.kill(server.worker_of(task), signal.SIGKILL)

    status = server.api.finish(task)
    assert status["task_status"] == "failure"
    assert status["failure"]["category"] == "capacity"
    assert "killed from outside (SIGKILL)" in status["error_message"]
    assert status["failure"]["details"]["exit"] == "SIGKILL"
    assert server.api.result(task).json()["failure"] == status["failure"]
    assert not any(name.startswith(task) for name in server.scratch_files())
    assert server.api.get("/ready").status_code == 200

    after = server.api.succeed(waiting)
    assert missing_phrases(SLIP, after["document"]["md_content"]) == []
    server.wait_for_no_workers()


def test_a_worker_killed_at_its_start_is_replaced(start_server: StartServer) -> None:
    server = start_server(SUBPROCESS_MODE | NOTHING_KEPT)
    task = server.api.submit(upload("notes.md"))
    (starting,) = eventually(server.workers, within_s=START_LIMIT_S, what="a worker starts")
    starting.kill()

    body = server.api.succeed(task)

    assert missing_phrases("notes.md", body["document"]["md_content"]) == []
    assert server.all_handed_over()[-1].pid != starting.pid


@pytest.fixture(scope="module")
def forking(serve: StartServer) -> Iterator[RunningServer]:
    """Default retries; a fork server and a standby process, so that a worker is there at once."""
    with serve(SUBPROCESS_MODE | FORKED | {"DOCLING_SERVE_SUBPROCESS_PREWARM": "1"}) as running:
        yield running


def worker_of_attempt(server: RunningServer, task: str, attempt: int) -> int:
    """Wait until a task is handed over for the ``attempt``-th time; returns the worker's pid."""

    def handed() -> int | None:
        pids = [one.pid for one in server.all_handed_over() if one.task_id == task]
        return pids[attempt - 1] if len(pids) >= attempt else None

    pid = eventually(handed, within_s=START_LIMIT_S, what=f"attempt {attempt} of {task}")
    assert pid is not None
    return pid


def test_a_task_that_takes_two_workers_down_is_not_tried_again(forking: RunningServer) -> None:
    task = forking.api.submit(upload("scan.pdf"))
    for attempt in (1, 2):
        os.kill(worker_of_attempt(forking, task, attempt), signal.SIGSEGV)

    status = forking.api.finish(task)
    assert status["task_status"] == "failure"
    assert status["failure"]["category"] == "backend_failure"
    assert "crashed (SIGSEGV)" in status["error_message"]
    assert status["failure"]["details"]["attempts"] == "2"
    assert not any(name.startswith(task) for name in forking.scratch_files())

    again = forking.api.finish(forking.api.submit(upload("scan.pdf")))
    assert again["task_status"] == "failure"
    assert "refused for a while" in again["error_message"]
    other = forking.api.convert(upload(SLIP))
    assert missing_phrases(SLIP, other.json()["document"]["md_content"]) == []


def test_a_standby_process_that_is_killed_is_replaced(forking: RunningServer) -> None:
    first = forking.standby()
    os.kill(first, signal.SIGKILL)
    eventually(lambda: not processes.alive(first), within_s=ORPHAN_LIMIT_S)

    second = forking.standby()
    task = forking.api.submit(upload("notes.md"))

    assert forking.api.finish(task)["task_status"] == "success"
    assert worker_of_attempt(forking, task, 1) == second


def test_a_fork_server_that_is_killed_is_replaced(forking: RunningServer) -> None:
    forking.standby()
    template = next(
        process
        for process in psutil.Process(forking.pid).children()
        if "multiprocessing.forkserver" in " ".join(process.cmdline())
    )
    template.kill()
    eventually(lambda: not processes.alive(template.pid), within_s=ORPHAN_LIMIT_S)

    # The standby process outlives the fork server; the worker after it needs a new one.
    task = forking.api.submit(upload(SLIP))
    text = forking.api.succeed(task)["document"]["md_content"]
    assert missing_phrases(SLIP, text) == []
    before = worker_of_attempt(forking, task, 1)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: not processes.alive(before), within_s=ORPHAN_LIMIT_S)

    text = forking.api.succeed(forking.api.submit(upload(SLIP)))["document"]["md_content"]
    assert missing_phrases(SLIP, text) == []
    assert psutil.Process(forking.standby()).ppid() != template.pid
