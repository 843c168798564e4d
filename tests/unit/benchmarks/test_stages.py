"""The stages of a task in a process of its own, from a log like the server's."""

from __future__ import annotations

import json

import pytest

from benchmarks.stages import events, stages


def a_log(*lines: tuple[float, str]) -> str:
    entries = [
        json.dumps({"timestamp": f"2026-01-01T00:00:{at:09.6f}+00:00", "message": text})
        for at, text in lines
    ]
    return "\n".join(["Starting production server", *entries])


def moves(worker: int, *steps: tuple[float, str]) -> list[tuple[float, str]]:
    return [(at, f"worker {worker}: {move} (pid 7, job 1, reason None)") for at, move in steps]


ONE_TASK = moves(
    2,
    (3.0, "starting -> standby"),
    (3.1, "standby -> booking"),
    (3.15, "booking -> busy"),
    (3.2, "busy -> loading"),
    (4.0, "loading -> busy"),
    (6.0, "busy -> warm"),
    (6.0, "warm -> stopping"),
    (6.2, "stopping -> releasing"),
    (6.3, "releasing -> stopped"),
)


def test_each_stage_has_its_seconds() -> None:
    found = stages(events(a_log((1.0, "task a: accepted, 1 document(s), 1 waiting"), *ONE_TASK)))

    assert {name: seconds for name, (seconds,) in found.items()} == pytest.approx(
        {"start": 2.0, "hand-over": 0.05, "load": 0.8, "work": 2.0, "exit": 0.3}, abs=1e-5
    )


def test_a_worker_that_stood_by_was_not_started_for_the_task() -> None:
    """The next standby process starts after the hand-over, and nobody waits for it."""
    standby = moves(4, (9.0, "starting -> standby"))
    first, *rest = ONE_TASK
    accepted = (3.05, "task a: accepted, 1 document(s), 1 waiting")

    found = stages(events(a_log(first, accepted, *rest, *standby)))

    assert found["start"] == []
    assert len(found["load"]) == 1


def test_workers_are_told_apart() -> None:
    both = sorted([*ONE_TASK, *((at + 0.01, line.replace("2:", "3:")) for at, line in ONE_TASK)])

    assert stages(events(a_log(*both)))["load"] == pytest.approx([0.8, 0.8], abs=1e-5)
