"""The arithmetic of the measures of the default configuration."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import psutil
import pytest

from benchmarks.client import Client
from benchmarks.inputs import Document
from benchmarks.measures.default import cost, hand_in_and_fetch

SMALL = Document("small.md", b"# Small")


class AccountedProcess:
    """Stands for a process whose processor time is known."""

    def __init__(self, *times: tuple[float, float]) -> None:
        self._times: Iterator[tuple[float, float]] = iter(times)

    def cpu_times(self) -> SimpleNamespace:
        user, system = next(self._times)
        return SimpleNamespace(user=user, system=system)


class ClientThatNotes:
    """Stands for the client of a server; notes what it was asked to do."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def submit(self, document: Document) -> str:
        with self._lock:
            task = f"task-{len(self.done)}"
            self.done.append(("submit", task))
        assert document is SMALL
        return task

    def wait(self, task: str) -> None:
        with self._lock:
            self.done.append(("wait", task))

    def fetch(self, task: str) -> None:
        with self._lock:
            self.done.append(("fetch", task))


def test_processor_time_is_user_and_system_time_for_each_thing_done() -> None:
    process = cast("psutil.Process", AccountedProcess((10.0, 1.0), (10.9, 1.3)))

    milliseconds, per_second = cost(process, lambda: 100)

    assert milliseconds == pytest.approx(12.0)
    assert per_second > 0


def test_every_document_is_handed_in_before_one_is_waited_for() -> None:
    client = ClientThatNotes()

    hand_in_and_fetch(cast("Client", client), [SMALL] * 20, clients=4)

    verbs = [verb for verb, _ in client.done]
    assert verbs == ["submit"] * 20 + ["wait"] * 20 + ["fetch"] * 20
    assert len({task for verb, task in client.done if verb == "fetch"}) == 20
