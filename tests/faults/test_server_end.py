"""The server ends, politely or not, at each point of a task's life: nothing of it is left.

That nothing is left is what ``assert_nothing_left`` says: no process that descends from the
server, no file in its scratch or temporary folder, nobody on its port.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
from collections.abc import Callable

import psutil
import pytest

from tests.conftest import FORKED, MODES, StartServer
from tests.helpers.api import SLIP, missing_phrases, upload
from tests.helpers.eventually import eventually
from tests.helpers.requests_by_hand import open_request
from tests.helpers.server import (
    NOTHING_KEPT,
    START_LIMIT_S,
    STOP_LIMIT_S,
    SUBPROCESS_MODE,
    RunningServer,
)

SPAWNED: dict[str, str] = {}


def idle(server: RunningServer) -> None:
    """Nothing was ever asked of it. A fork server may still be importing."""


def starting(server: RunningServer) -> None:
    """A task is accepted, its worker is importing."""
    server.api.submit(upload("scan.pdf"))
    eventually(server.workers, within_s=START_LIMIT_S, what="a worker starts")


def converting(server: RunningServer) -> None:
    """A worker is in the middle of a scan, a second task waits, the result of a third one, fetched
    by nobody, lies in scratch."""
    task, _, finished = (server.api.submit(upload(n)) for n in ("scan.pdf", "scan.png", "notes.md"))
    assert server.api.finish(finished)["task_status"] == "success"
    server.worker_of(task)
    assert f"{finished}/result.body" in server.scratch_files()


def killed(server: RunningServer) -> None:
    """SIGKILL: the server gets no chance to clean up."""
    server.kill()


def terminated(server: RunningServer) -> None:
    """SIGTERM, as service managers send it."""
    assert server.stop() in (0, -signal.SIGTERM)


def interrupted_twice(server: RunningServer) -> None:
    """Ctrl-C twice at once, from a terminal."""
    server.press_ctrl_c()
    server.press_ctrl_c()
    server.wait(STOP_LIMIT_S)


Step = Callable[[RunningServer], None]


@pytest.mark.parametrize(
    ("phase", "end", "start_method"),
    [
        (idle, killed, SPAWNED),
        (idle, killed, FORKED),
        (idle, interrupted_twice, SPAWNED),
        (starting, killed, SPAWNED),
        (starting, interrupted_twice, SPAWNED),
        (converting, killed, SPAWNED),
        (converting, killed, FORKED),
        (converting, interrupted_twice, SPAWNED),
    ],
    ids=lambda value: value.__name__ if callable(value) else "forked" if value else "spawned",
)
def test_nothing_is_left(
    start_server: StartServer, phase: Step, end: Step, start_method: dict[str, str]
) -> None:
    server = start_server(SUBPROCESS_MODE | start_method)
    phase(server)

    end(server)

    server.assert_nothing_left()


@pytest.mark.parametrize("end", [killed, terminated])
def test_nothing_is_left_without_the_mode(start_server: StartServer, end: Step) -> None:
    grace = {"DOCLING_SERVE_SHUTDOWN_GRACE": "0.1"}
    server = start_server(MODES["in-process"] | grace)
    task = server.api.submit(upload("scan.png"))
    eventually(lambda: server.api.poll(task)["task_status"] == "started", within_s=START_LIMIT_S)

    end(server)

    server.assert_nothing_left()


def read(connection: http.client.HTTPConnection) -> tuple[int, dict[str, object]]:
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read())


def begun(server: RunningServer) -> None:
    """Its task no longer waits: to be handed over is to wait, until the worker says more."""

    def states() -> set[str]:
        return {task["task_status"] for task in server.api.get("/v1/tasks").json()["tasks"]}

    eventually(lambda: states() - {"pending"}, within_s=START_LIMIT_S, what="the conversion begins")


def test_a_task_that_runs_is_finished_and_answered(start_server: StartServer) -> None:
    server = start_server(SUBPROCESS_MODE)
    connection = open_request(server, SLIP)
    begun(server)

    server.signal(signal.SIGTERM)

    status, body = read(connection)
    assert status == 200
    assert missing_phrases(SLIP, json.dumps(body)) == []
    server.wait(STOP_LIMIT_S)


def test_a_task_that_outlasts_the_grace_is_stopped_and_answered(
    start_server: StartServer,
) -> None:
    server = start_server(SUBPROCESS_MODE | {"DOCLING_SERVE_SHUTDOWN_GRACE": "0.5"})
    connection = open_request(server, "scan.pdf")
    begun(server)

    server.signal(signal.SIGTERM)

    status, body = read(connection)
    assert 500 <= status < 600
    assert "shut down" in str(body["detail"])
    server.wait(STOP_LIMIT_S)


def test_a_task_that_waits_is_given_up_and_answered(start_server: StartServer) -> None:
    server = start_server(SUBPROCESS_MODE | NOTHING_KEPT)
    connection = open_request(server, "scan.pdf")
    (worker,) = eventually(server.workers, within_s=START_LIMIT_S, what="its worker starts")
    worker.suspend()  # or it may have the task before the server ends

    server.signal(signal.SIGTERM)

    status, body = read(connection)
    with contextlib.suppress(psutil.NoSuchProcess):  # the server may have killed it
        worker.resume()
    assert 500 <= status < 600
    assert "shut down" in str(body["detail"])
    server.wait(STOP_LIMIT_S)
