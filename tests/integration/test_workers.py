"""Which worker process gets which task. That waiting tasks share one is in test_light_gateway."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.conftest import StartServer
from tests.helpers import server_processes as processes
from tests.helpers.api import upload
from tests.helpers.eventually import eventually
from tests.helpers.server import NOTHING_KEPT, ORPHAN_LIMIT_S, SUBPROCESS_MODE, RunningServer


def worker_of_finished(server: RunningServer, name: str) -> int:
    """Convert a document; returns the pid of the worker that did it."""
    task = server.api.submit(upload(name))
    assert server.api.finish(task)["task_status"] == "success"
    handed = server.handed_over(task)
    assert handed is not None, server.log_tail()
    return handed.pid


def test_a_task_after_an_idle_moment_gets_a_fresh_process(start_server: StartServer) -> None:
    server = start_server(SUBPROCESS_MODE | NOTHING_KEPT)
    tree_before = server.idle_tree()
    pids = []
    for _ in range(2):
        pids.append(worker_of_finished(server, "notes.md"))
        eventually(lambda: server.tree() == tree_before, within_s=ORPHAN_LIMIT_S)

    assert pids[0] != pids[1]
    assert not tree_before & set(pids)


@pytest.fixture(scope="module")
def default(serve: StartServer) -> Iterator[RunningServer]:
    """One standby process is kept."""
    with serve(SUBPROCESS_MODE) as running:
        yield running


def test_a_standby_process_converts_a_document_and_goes_back(default: RunningServer) -> None:
    pid = default.standby()

    assert worker_of_finished(default, "notes.md") == pid
    assert worker_of_finished(default, "page.html") == pid
    assert default.standby() == pid


def test_a_standby_process_that_was_killed_is_replaced(default: RunningServer) -> None:
    first = default.standby()

    os.kill(first, signal.SIGKILL)

    eventually(lambda: not processes.alive(first), within_s=ORPHAN_LIMIT_S)
    assert default.standby() != first
