"""Small tasks one after another: what the server and its workers hold does not grow with them.

1,000 tasks with ``--soak``, 60 without. The bounds are there to find a leak, not noise: what a
document leaves behind for good would be more.
"""

from __future__ import annotations

import time

import pytest

from tests.conftest import FORKED, StartServer
from tests.helpers.api import missing_phrases, upload
from tests.helpers.eventually import eventually
from tests.helpers.server import ORPHAN_LIMIT_S, START_LIMIT_S, SUBPROCESS_MODE, RunningServer
from tests.soak.growth import Growth

TASKS = {True: 1000, False: 60}
#: Each one waits until the server is at rest.
READINGS = {True: 20, False: 10}
NAMES = ("notes.md", "page.html", "letter.docx")
#: Bytes a task that only a long run can tell from noise.
GATEWAY_LIMIT = {True: 8_000, False: 200_000}
SETTINGS = {
    "DOCLING_SERVE_SUBPROCESS_PREWARM": "1",
    # A worker is replaced after so many tasks, several times in the run.
    "DOCLING_SERVE_SUBPROCESS_MAX_TASKS": "25",
    "DOCLING_SERVE_RESULT_REMOVAL_DELAY": "0",
    "DOCLING_SERVE_ENABLE_MANAGEMENT_ENDPOINTS": "true",
}


@pytest.mark.timeout(3600)
def test_nothing_grows_with_the_number_of_tasks(start_server: StartServer, soak: bool) -> None:
    server = start_server(SUBPROCESS_MODE | FORKED | SETTINGS)
    convert(server, 0)
    at_rest(server)
    growth, tasks, started = Growth(server), TASKS[soak], time.monotonic()
    between = tasks // READINGS[soak]
    growth.read(0)
    for number in range(1, tasks + 1):
        convert(server, number)
        if number % between == 0:
            at_rest(server)
            growth.read(number)

    took = time.monotonic() - started
    print(f"\n{tasks} small tasks, {took:.0f} s, {1000 * took / tasks:.0f} ms each")
    print(growth.table())
    assert {reading.descriptors for reading in growth.readings[1:]} == {
        growth.readings[-1].descriptors
    }
    assert growth.slope("gateway") < GATEWAY_LIMIT[soak]
    # One worker is heavier than another; that alone is some 50 kB a task in a long run.
    assert growth.slope("tree") < 20 * GATEWAY_LIMIT[soak]


def convert(server: RunningServer, number: int) -> None:
    """One task, sent and fetched."""
    name = NAMES[number % len(NAMES)]
    body = server.api.succeed(server.api.submit(upload(name)))
    assert missing_phrases(name, body["document"]["md_content"]) == []


def at_rest(server: RunningServer) -> None:
    """Wait until results are removed and one standby worker is there."""
    eventually(lambda: server.scratch_files() == [], within_s=ORPHAN_LIMIT_S)
    eventually(lambda: states(server) == ["standby"], within_s=START_LIMIT_S)


def states(server: RunningServer) -> list[str]:
    """Of its workers."""
    return [worker["state"] for worker in server.api.get("/v1/workers").json()["workers"]]
