from __future__ import annotations

import multiprocessing
import subprocess
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from docling_serve.internals.clean_starts import starting_with
from tests.helpers.process_ends import ROOT, python

_SECRET = "a secret of the server"


def _send_environment(pipe: Connection) -> None:
    pipe.send_bytes(Path("/proc/self/environ").read_bytes())


def test_a_process_is_started_with_what_it_may_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", _SECRET)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_send_environment, args=(theirs,))

    with starting_with(lambda: {"PYTHONPATH": str(ROOT), "KNOWN": "1"}):
        process.start()
    seen = ours.recv_bytes()
    process.join()

    assert process.exitcode == 0
    assert b"KNOWN=1" in seen
    assert b"SECRET" not in seen


_FORK_SERVER = """
import multiprocessing, os
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from docling_serve.internals import fork_server
from docling_serve.internals.clean_starts import starting_with
with starting_with(lambda: {"PATH": os.environ["PATH"]}):
    resource_tracker.ensure_running()
    running = fork_server.running()
for pid in (running.pid, resource_tracker._resource_tracker._pid):
    while not (seen := Path(f"/proc/{pid}/environ").read_bytes()):
        pass  # empty during exec
    print(seen)
fork_server.stop()
"""


def test_so_are_the_fork_server_and_the_resource_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", _SECRET)

    seen = subprocess.run(
        python("-c", _FORK_SERVER), cwd=ROOT, capture_output=True, check=True, timeout=60, text=True
    ).stdout

    assert seen.count("PATH=") == 2
    assert _SECRET not in seen
