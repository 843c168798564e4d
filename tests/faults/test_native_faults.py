"""A document makes its worker crash, hang or grow in the middle of a page: the task ends with the
cause, and everything else is as before.

Real workers, real conversions; only the OCR engine is one that fails on purpose (tests/plugins).
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FORKED, StartServer
from tests.helpers import server_processes as processes
from tests.helpers.api import missing_phrases, upload
from tests.helpers.eventually import eventually
from tests.helpers.failing_documents import PAGE, faulty
from tests.helpers.run_with_loop import command_on
from tests.helpers.server import (
    NOTHING_KEPT,
    ORPHAN_LIMIT_S,
    START_LIMIT_S,
    SUBPROCESS_MODE,
    WITH_FAULTY_OCR,
    RunningServer,
    documented_command,
)

TIMEOUT_S = 6
MEMORY_LIMIT = "1700MB"
LIMITS = {
    "DOCLING_SERVE_SUBPROCESS_TIMEOUT": str(TIMEOUT_S),
    "DOCLING_SERVE_SUBPROCESS_MEMORY_LIMIT": MEMORY_LIMIT,
    # One line for all documents: the next task comes to where the fault was.
    "DOCLING_SERVE_SUBPROCESS_LIGHT_WORKERS": "0",
    "DOCLING_SERVE_RESULT_REMOVAL_DELAY": "0",
}

#: What the document does -> category of the failure, part of its message, some of its details.
FAULTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "sigkill": ("capacity", "killed from outside (SIGKILL)", {"exit": "SIGKILL", "attempts": "2"}),
    "segfault": ("backend_failure", "crashed (SIGSEGV)", {"exit": "SIGSEGV", "attempts": "2"}),
    "abort": ("backend_failure", "crashed (SIGABRT)", {"exit": "SIGABRT", "attempts": "2"}),
    "exit": ("internal", "exited early (code 3)", {"exit": "code 3", "attempts": "2"}),
    "torn_pipe": ("internal", "closed its connection to the server", {"attempts": "2"}),
    "sigstop": (
        "timeout",
        "0 pages done",
        {"limit": "subprocess_timeout", "pages": "0"},
    ),
    "loop": ("timeout", "0 pages", {"limit": "subprocess_timeout", "pages": "0"}),
    "hog": ("capacity", "0 pages", {"limit": "subprocess_memory_limit"}),
    "cuda": ("capacity", "The GPU ran out of memory.", {"reason": "cuda_out_of_memory"}),
    "memory": ("capacity", "The conversion ran out of memory.", {"reason": "out_of_memory"}),
    "full_disk": ("capacity", "scratch disk is full", {}),
}


@dataclass(frozen=True)
class Watched:
    """A server, and what belongs to it while it has nothing to do."""

    server: RunningServer
    tree: set[int]
    descriptors: int

    def assert_well(self) -> None:
        """The next task is right, and then the server is as it was."""
        assert self.server.api.get("/ready").status_code == 200
        body = self.server.api.convert(upload("notes.md")).json()
        assert missing_phrases("notes.md", body["document"]["md_content"]) == []
        self.assert_nothing_more()

    def assert_nothing_more(self) -> None:
        """No worker, no file of a task, no descriptor more than before."""
        server = self.server
        eventually(
            lambda: server.tree() == self.tree, within_s=ORPHAN_LIMIT_S, what=server.commands
        )
        eventually(lambda: server.scratch_files() == [], within_s=ORPHAN_LIMIT_S)
        eventually(
            lambda: server.descriptors() <= self.descriptors,
            within_s=ORPHAN_LIMIT_S,
            what=lambda: f"{server.descriptors()} descriptors, {self.descriptors} before",
        )


def watch(server: RunningServer) -> Watched:
    server.api.convert(upload("notes.md"))
    server.wait_for_no_workers()
    eventually(lambda: server.scratch_files() == [], within_s=ORPHAN_LIMIT_S)
    return Watched(server, server.idle_tree(), server.descriptors())


@pytest.fixture(scope="module")
def watched(serve: StartServer) -> Iterator[Watched]:
    """A server on uvloop, as users have it. Workers are forked: many of them die here."""
    with serve(SUBPROCESS_MODE | FORKED | WITH_FAULTY_OCR | LIMITS) as server:
        yield watch(server)


def failure_of(server: RunningServer, do: str) -> dict[str, Any]:
    """Submit a document that does ``do``; how its task fails."""
    task = server.api.submit(upload(*PAGE), form=faulty(do))
    status = server.api.finish(task)
    assert status["task_status"] == "failure", status
    assert server.api.result(task).json()["failure"] == status["failure"]
    for handed in server.all_handed_over():
        if handed.task_id == task:
            eventually(lambda pid=handed.pid: not processes.alive(pid), within_s=ORPHAN_LIMIT_S)
    failure: dict[str, Any] = status["failure"]
    return failure


def assert_is_told(failure: dict[str, Any], do: str) -> None:
    category, says, details = FAULTS[do]
    assert failure["category"] == category
    assert says in failure["message"]
    assert details.items() <= failure["details"].items()


@pytest.mark.parametrize("do", FAULTS)
def test_the_task_ends_with_its_cause_and_the_server_goes_on(watched: Watched, do: str) -> None:
    assert_is_told(failure_of(watched.server, do), do)

    watched.assert_well()


@pytest.mark.parametrize("do", ["segfault", "cuda", "memory"])
def test_what_goes_wrong_once_is_tried_again(watched: Watched, do: str, tmp_path: Path) -> None:
    server = watched.server
    task = server.api.submit(upload(*PAGE), form=faulty(do, marker=tmp_path / "done"))

    server.api.succeed(task)

    first, second = (one.pid for one in server.all_handed_over() if one.task_id == task)
    assert first != second
    watched.assert_nothing_more()


def stopped(server: RunningServer, do: str, ready: Callable[[int], bool]) -> int:
    """Delete a task in the middle of ``do``, when ``ready`` says so of its worker."""
    task = server.api.submit(upload(*PAGE), form=faulty(do))
    worker = server.worker_of(task)
    eventually(lambda: ready(worker), within_s=START_LIMIT_S, what=f"{do} is under way")
    assert server.api.http.delete(f"/v1/tasks/{task}").status_code == 200
    return worker


def test_a_worker_that_ignores_sigterm_is_killed(watched: Watched) -> None:
    def deaf(pid: int) -> bool:
        status = Path(f"/proc/{pid}/status").read_text()
        ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
        return bool(ignored >> 14 & 1)  # SIGTERM is the fifteenth

    worker = stopped(watched.server, "deaf", deaf)

    assert not processes.alive(worker)
    watched.assert_well()


def test_what_the_children_of_a_worker_have_started_is_gone_too(watched: Watched) -> None:
    family: list[int] = []

    def has_all(pid: int) -> bool:
        family[:] = [process.pid for process in processes.tree(pid)]
        return len(family) >= 20

    stopped(watched.server, "grandchildren", has_all)

    eventually(lambda: not any(map(processes.alive, family)), within_s=ORPHAN_LIMIT_S)
    watched.assert_well()


@pytest.fixture(scope="module")
def watched_on_asyncio(serve: StartServer) -> Iterator[Watched]:
    settings = SUBPROCESS_MODE | FORKED | WITH_FAULTY_OCR | LIMITS
    with serve(settings, command=command_on("asyncio")) as server:
        yield watch(server)


@pytest.mark.parametrize("do", ["sigkill", "torn_pipe", "loop"])
def test_it_is_the_same_on_asyncio(watched_on_asyncio: Watched, do: str) -> None:
    assert_is_told(failure_of(watched_on_asyncio.server, do), do)

    watched_on_asyncio.assert_well()


@pytest.mark.parametrize("command", [documented_command, command_on("asyncio")])
def test_it_is_the_same_with_spawned_workers(start_server: StartServer, command: Any) -> None:
    once = {"DOCLING_SERVE_SUBPROCESS_RETRIES": "0"}
    server = start_server(SUBPROCESS_MODE | NOTHING_KEPT | WITH_FAULTY_OCR | once, command=command)

    failure = failure_of(server, "segfault")

    assert "crashed (SIGSEGV)" in failure["message"]
    server.wait_for_no_workers()
    assert server.scratch_files() == []


# ---- the disk is full ----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here; FAULTS has a full device instead")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_result_for_which_there_is_no_room(start_server: StartServer, small_disk: Path) -> None:
    scratch = {"DOCLING_SERVE_SCRATCH_PATH": str(small_disk / "scratch")}
    server = start_server(SUBPROCESS_MODE | FORKED | scratch)
    server.scratch = small_disk / "scratch"
    long = b"\n\n".join(b"Paragraph %d of many." % number for number in range(30_000))

    reply = server.api.convert(upload("long.md", long[:700_000]))

    assert reply.status_code == 507
    assert "scratch disk is full" in reply.json()["detail"]
    eventually(lambda: server.scratch_files() == [], within_s=ORPHAN_LIMIT_S)
    body = server.api.convert(upload("notes.md")).json()
    assert missing_phrases("notes.md", body["document"]["md_content"]) == []
