"""What tests of real worker processes share: a fork server of scripted workers, a look back."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker

import psutil
import pytest

from docling_serve.internals.fork_server import running, stop
from tests.helpers.loops import PATIENCE_S
from tests.helpers.process_ends import descendants


@pytest.fixture(scope="module")
def fork_server() -> Iterator[None]:
    """A fork server for this module alone, which has the scripted worker imported."""
    stop()
    forkserver.set_forkserver_preload(["tests.helpers.scriptable_child"])
    running()
    resource_tracker.ensure_running()
    yield
    stop()
    forkserver.set_forkserver_preload(["__main__"])


@pytest.fixture
def nothing_is_left(fork_server: None) -> Iterator[None]:
    """A test leaves no process and no thread of a pool."""
    before = descendants()
    yield
    left = []
    for pid in descendants() - before:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.append(psutil.Process(pid))
    _, alive = psutil.wait_procs(left, timeout=PATIENCE_S)
    for process in alive:
        process.kill()
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("worker-")]
    for thread in threads:
        thread.join(timeout=PATIENCE_S)
    assert not alive, f"processes left: {alive}"
    assert not [thread for thread in threads if thread.is_alive()]
    for child in multiprocessing.active_children():
        child.join(timeout=PATIENCE_S)  # a fork server tells a moment later that one has ended
    assert not multiprocessing.active_children()
