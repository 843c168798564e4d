"""``kill -9`` at random points of a run, again and again: each accepted task ends once, rightly.

200 kills in a run of 200 tasks with ``--soak``, 3 in one of 12 without; the seed is fixed. The
client sends each task until it is accepted, with a key, so it never has to know what was lost.
"""

from __future__ import annotations

import contextlib
import random
import re
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartServer
from tests.helpers.api import upload
from tests.helpers.server import SUBPROCESS_MODE, RunningServer

SEED = 20
RUNS = {True: (200, 200), False: (12, 3)}
#: A server that has written so many lines has done something of everything.
LINES = 60

_SUCCESS = re.compile(r"conductor: task (\S+): success after ", re.M)
_OTHER_END = re.compile(r"conductor: task (\S+): failure after ", re.M)


class Client(threading.Thread):
    """Sends its tasks, one after the other, to whatever server is there at the moment."""

    def __init__(self, tasks: int) -> None:
        super().__init__(name="client")
        self.url: str | None = None
        self.accepted: dict[int, str] = {}
        self.answers = 0
        self._tasks = tasks
        self._over = threading.Event()

    def run(self) -> None:
        for number in range(self._tasks):
            while number not in self.accepted and not self._over.is_set():
                self._send(number)

    def stop(self) -> None:
        self._over.set()
        self.join()

    def _send(self, number: int) -> None:
        try:
            answer = httpx.post(
                f"{self.url}/v1/convert/file/async",
                files=[upload(f"{number}.md", text(number))],
                headers={"Idempotency-Key": f"task {number}"},
                timeout=30,
                trust_env=False,
            )
        except httpx.TransportError:  # it was killed
            self._over.wait(0.05)
            return
        assert answer.status_code == 200, answer.text
        self.answers += 1
        self.accepted[number] = answer.json()["task_id"]


def text(number: int) -> bytes:
    return f"# Document {number}\n\nIts number is {number * 7919}.\n".encode()


def kill_at(server: RunningServer, lines: int, client: Client) -> None:
    """Kill the server once its log has so many lines, or there is nothing left to do."""
    pause = threading.Event()
    while done_by(server) < lines and (client.is_alive() or busy(server)):
        pause.wait(0.01)
    server.kill()


def done_by(server: RunningServer) -> int:
    """Lines of the log, without those of our own looking."""
    return sum("/v1/capacity" not in line for line in server.log().splitlines())


def busy(server: RunningServer) -> bool:
    capacity = server.api.get("/v1/capacity").json()
    lines = (capacity, capacity["light"])
    return any(line["queued"] + line["running"] for line in lines)


def assert_sound(scratch: Path) -> None:
    with contextlib.closing(sqlite3.connect(scratch / "journal.sqlite3")) as journal:
        assert journal.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.timeout(7200)
def test_no_task_is_lost_or_doubled(start_server: StartServer, soak: bool, tmp_path: Path) -> None:
    tasks, kills = RUNS[soak]
    chance = random.Random(SEED)
    scratch = tmp_path / "scratch"
    settings = SUBPROCESS_MODE | {
        "DOCLING_SERVE_SCRATCH_PATH": str(scratch),
        "DOCLING_SERVE_ENG_LOC_MAX_ATTEMPTS": "1000",
        "DOCLING_SERVE_RESULT_REMOVAL_DELAY": "86400",
    }
    client = Client(tasks)
    successes: Counter[str] = Counter()
    began = time.monotonic()
    servers = []
    try:
        for number in range(kills + 1):
            server = start_server(settings)
            servers.append(server)
            client.url = server.url
            if number == 0:
                client.start()
            if number < kills:
                kill_at(server, done_by(server) + chance.randrange(LINES), client)
                assert_sound(scratch)
                server.assert_nothing_left()
        client.join()
        for number, task in client.accepted.items():
            body = server.api.succeed(task)
            assert f"Its number is {number * 7919}." in body["document"]["md_content"]
    finally:
        client.stop()
    for ended in servers:
        successes.update(_SUCCESS.findall(ended.log()))
        assert _OTHER_END.findall(ended.log()) == []

    assert len(client.accepted) == len(set(client.accepted.values())) == tasks
    listed = server.api.get("/v1/tasks", limit=1000).json()["tasks"]
    assert sorted(t["task_id"] for t in listed) == sorted(client.accepted.values())
    assert set(successes.values()) <= {1}, "a task ended twice"
    assert sorted(p.name for p in (scratch / "tasks").iterdir()) == sorted(
        client.accepted.values()
    ), "files of other tasks are left"
    server.stop()
    assert_sound(scratch)
    print(
        f"\n{tasks} tasks, {kills} kills, {time.monotonic() - began:.0f} s;"
        f" {tasks - sum(successes.values())} ends were cut off before they were logged"
    )
