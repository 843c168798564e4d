"""A client of a synchronous request gives up, or is given up: its task does not go on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import FORKED, MODES, StartServer
from tests.helpers import server_processes as processes
from tests.helpers.api import upload
from tests.helpers.eventually import eventually
from tests.helpers.requests_by_hand import open_request
from tests.helpers.server import ORPHAN_LIMIT_S, START_LIMIT_S, RunningServer

MAX_SYNC_WAIT_S = 3
TOO_LONG = (
    "Conversion is taking too long. The maximum wait time is configure as "
    f"DOCLING_SERVE_MAX_SYNC_WAIT={MAX_SYNC_WAIT_S}."
)  # contract: behaviour F56, spelling as it is there


@pytest.fixture(scope="module")
def hasty(mode: str, serve: StartServer) -> Iterator[RunningServer]:
    """Synchronous requests wait three seconds; a scan of three pages takes eight. The workers,
    which stay, can be forked at once."""
    wait = {"DOCLING_SERVE_MAX_SYNC_WAIT": str(MAX_SYNC_WAIT_S)}
    with serve(MODES[mode] | FORKED | wait) as running:
        running.api.succeed(running.api.submit(upload("notes.md")))
        running.api.get("/v1/clear/results", older_then=0)
        yield running


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
    assert f"task {handed.task_id}: failure (policy: " in hasty.log()


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
    eventually(lambda: hasty.log().count(": failure (policy: ") == 2, within_s=ORPHAN_LIMIT_S)
    assert hasty.all_handed_over()[-1].task_id == running
    hasty.api.get("/v1/clear/results", older_then=0)


def test_a_request_that_takes_too_long_is_answered_with_504(
    hasty: RunningServer, mode: str
) -> None:
    reply = hasty.api.convert(upload("scan.pdf"))

    assert reply.status_code == 504
    assert reply.json()["detail"] == TOO_LONG
    eventually(lambda: hasty.scratch_files() == [], within_s=ORPHAN_LIMIT_S)
    if mode == "subprocess":
        assert not processes.alive(hasty.all_handed_over()[-1].pid), "stopped, not forgotten"
