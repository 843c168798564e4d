"""A client of a synchronous request gives up, or is given up: its task does not go on."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psutil
import pytest

from tests.conftest import FORKED, MODES, StartServer
from tests.helpers import server_processes as processes
from tests.helpers.api import missing_phrases, upload
from tests.helpers.eventually import eventually
from tests.helpers.requests_by_hand import open_request
from tests.helpers.server import ORPHAN_LIMIT_S, START_LIMIT_S, RunningServer

MAX_SYNC_WAIT_S = 3
TOO_LONG = (
    "Conversion is taking too long. The maximum wait time is configure as "
    f"DOCLING_SERVE_MAX_SYNC_WAIT={MAX_SYNC_WAIT_S}."
)  # upstream F56, spelling as it is there


@pytest.fixture(scope="module")
def hasty(mode: str, serve: StartServer) -> Iterator[RunningServer]:
    """Synchronous requests wait three seconds; a scan of three pages takes eight. The workers,
    which stay, can be forked at once."""
    wait = {"DOCLING_SERVE_MAX_SYNC_WAIT": str(MAX_SYNC_WAIT_S)}
    with serve(MODES[mode] | FORKED | wait) as running:
        running.api.succeed(running.api.submit(upload("notes.md")))
        running.api.get("/v1/clear/results", older_then=0)
        yield running


def cancelled(server: RunningServer) -> list[str]:
    """The tasks that ended because nobody waits for them any more."""
    return re.findall(r"task (\S+): failure after .*\): policy: ", server.log())


@pytest.mark.parametrize("mode", ["subprocess"], indirect=True)
def test_a_client_that_goes_takes_its_worker_with_it(hasty: RunningServer) -> None:
    before = len(hasty.all_handed_over())
    connection = open_request(hasty, "scan.pdf")
    (handed,) = eventually(
        lambda: hasty.all_handed_over()[before:],
        within_s=START_LIMIT_S,
        what="the conversion begins",
    )
    connection.close()

    eventually(
        lambda: not processes.alive(handed.pid), within_s=ORPHAN_LIMIT_S, what="the worker ends"
    )
    eventually(lambda: hasty.scratch_files() == [], within_s=ORPHAN_LIMIT_S)
    eventually(
        lambda: handed.task_id in cancelled(hasty),
        within_s=ORPHAN_LIMIT_S,
        what="the task has ended",
    )


@pytest.mark.parametrize("mode", ["subprocess"], indirect=True)
def test_a_client_that_goes_while_its_task_waits_takes_it_out_of_the_queue(
    hasty: RunningServer,
) -> None:
    running = hasty.api.submit(upload("scan.pdf"))
    hasty.worker_of(running)
    connection = open_request(hasty, "scan.png")
    eventually(lambda: len(hasty.scratch_files()) > 2, within_s=ORPHAN_LIMIT_S, what="accepted")
    connection.close()

    assert hasty.api.finish(running)["task_status"] == "success"
    eventually(lambda: len(cancelled(hasty)) == 2, within_s=ORPHAN_LIMIT_S)
    assert hasty.all_handed_over()[-1].task_id == running
    hasty.api.get("/v1/clear/results", older_then=0)


def test_a_client_that_goes_in_the_middle_of_its_upload_leaves_nothing(
    hasty: RunningServer,
) -> None:
    accepted, descriptors = hasty.log().count(": accepted"), hasty.descriptors()
    connection = open_request(hasty, "scan.pdf", share=0.5)
    peer = connection.sock.getsockname()
    server = psutil.Process(hasty.pid)
    eventually(
        lambda: peer in [each.raddr for each in server.net_connections("tcp")],
        within_s=ORPHAN_LIMIT_S,
        what="it is heard",
    )
    connection.close()

    eventually(lambda: hasty.descriptors() <= descriptors, within_s=ORPHAN_LIMIT_S)
    body = hasty.api.convert(upload("notes.md")).json()
    assert missing_phrases("notes.md", body["document"]["md_content"]) == []
    assert hasty.log().count(": accepted") == accepted + 1
    hasty.api.get("/v1/clear/results", older_then=0)
    eventually(lambda: hasty.scratch_files() == [], within_s=ORPHAN_LIMIT_S)


@pytest.mark.parametrize("mode", ["subprocess"], indirect=True)
def test_a_task_that_waits_or_runs_can_be_deleted(hasty: RunningServer) -> None:
    running, waiting = (hasty.api.submit(upload("scan.pdf")) for _ in range(2))
    worker = hasty.worker_of(running)

    for task in (waiting, running):
        reply = hasty.api.http.delete(f"/v1/tasks/{task}")
        assert reply.status_code == 200
        assert hasty.api.http.get(f"/v1/status/poll/{task}").status_code == 404

    assert not processes.alive(worker), "a task has ended only when its worker has"
    assert hasty.scratch_files() == []
    assert waiting not in [handed.task_id for handed in hasty.all_handed_over()]


def test_a_request_that_takes_too_long_is_answered_with_504(
    hasty: RunningServer, mode: str
) -> None:
    reply = hasty.api.convert(upload("scan.pdf"))

    assert reply.status_code == 504
    assert reply.json()["detail"] == TOO_LONG
    eventually(lambda: hasty.scratch_files() == [], within_s=ORPHAN_LIMIT_S)
    if mode == "subprocess":
        assert not processes.alive(hasty.all_handed_over()[-1].pid), "stopped, not forgotten"
