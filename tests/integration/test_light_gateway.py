"""What stays in the server process, and around it, after conversions.

No standby process is kept here: a worker ends as soon as no task waits.
"""

from __future__ import annotations

from tests.conftest import StartServer
from tests.helpers.api import SLIP, missing_phrases, upload
from tests.helpers.eventually import eventually
from tests.helpers.server import (
    IN_PROCESS_MODE,
    NOTHING_KEPT,
    ORPHAN_LIMIT_S,
    SUBPROCESS_MODE,
    RunningServer,
)

MIB = 1024 * 1024
_HEAVY = ("libtorch", "onnxruntime", "libcuda", "libcudart")


def convert_scans(server: RunningServer, name: str, count: int) -> None:
    """Submit all tasks at once, so that one worker goes from one to the next; check each text."""
    tasks = [server.api.submit(upload(name)) for _ in range(count)]
    for task in tasks:
        text = server.api.succeed(task)["document"]["md_content"]
        assert missing_phrases(name, text) == []


def test_twenty_ocr_tasks_leave_the_gateway_as_it_was(start_server: StartServer) -> None:
    server = start_server(SUBPROCESS_MODE | NOTHING_KEPT)
    rss_before, tree_before = server.rss(), server.idle_tree()
    assert server.workers() == [], "nothing is warmed up"
    assert not any(name in server.maps() for name in _HEAVY)

    convert_scans(server, SLIP, count=20)

    eventually(
        lambda: server.tree() == tree_before,
        within_s=ORPHAN_LIMIT_S,
        what=lambda: f"back to the processes {tree_before}; there are {server.commands()}",
    )
    assert server.workers() == []
    assert server.rss() - rss_before < 20 * MIB
    assert not any(name in server.maps() for name in _HEAVY)
    pids = {handed.pid for handed in server.all_handed_over()}
    assert len(pids) == 1, "a task that waits is taken up by the worker that is there"


def test_without_the_mode_the_memory_stays(start_server: StartServer) -> None:
    """The reason for the mode: hundreds of megabytes stay in the server, cleared or not."""
    server = start_server(IN_PROCESS_MODE)
    rss_before = server.rss()

    convert_scans(server, "scan.png", count=2)
    assert server.api.get("/v1/clear/converters").json() == {"status": "ok"}

    assert server.rss() - rss_before > 200 * MIB
    assert "libtorch" in server.maps()
    assert server.workers() == []
