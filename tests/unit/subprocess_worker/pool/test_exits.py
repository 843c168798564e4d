from __future__ import annotations

import signal
from pathlib import Path

import pytest

from docling_serve.errors import Failure
from docling_serve.subprocess_worker.pool.exits import (
    FORKSERVER_GONE,
    Ending,
    exit_text,
    oom_kill_count,
)
from docling_serve.subprocess_worker.pool.states import StopReason

LOST = "The worker process was lost."


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (None, "unknown"),
        (0, "code 0"),
        (3, "code 3"),
        (-9, "SIGKILL"),
        (-11, "SIGSEGV"),
        (-199, "signal 199"),
    ],
)
def test_an_exit_code_in_words(code: int | None, text: str) -> None:
    assert exit_text(code) == text


@pytest.mark.parametrize(
    ("code", "category", "retryable", "message"),
    [
        (None, "internal", True, LOST),
        (FORKSERVER_GONE, "internal", True, LOST),
        (-signal.SIGKILL, "capacity", True, "was killed from outside (SIGKILL)"),
        (-signal.SIGSEGV, "backend_failure", False, "crashed (SIGSEGV)"),
        (-signal.SIGABRT, "backend_failure", False, "crashed (SIGABRT)"),
        (-signal.SIGBUS, "backend_failure", False, "crashed (SIGBUS)"),
        (-signal.SIGTERM, "internal", True, "exited early (SIGTERM)"),
        (0, "internal", True, "exited early (code 0)"),
        (3, "internal", True, "exited early (code 3)"),
    ],
)
@pytest.mark.parametrize("reason", [None, StopReason.CRASHED])
def test_an_end_that_was_not_asked_for(
    code: int | None, category: str, retryable: bool, message: str, reason: StopReason | None
) -> None:
    failure = Ending(code, reason).failure()

    assert (failure.category, failure.retryable) == (category, retryable)
    assert message in failure.message
    assert failure.phase == "execution"
    assert failure.details == {"exit": exit_text(code)}


@pytest.mark.parametrize(
    ("reason", "category", "retryable", "message"),
    [
        (StopReason.CANCELLED, "policy", False, "was cancelled"),
        (StopReason.SHUTDOWN, "capacity", True, "was shut down"),
        (StopReason.PIPE_LOST, "internal", True, "closed its connection"),
        (StopReason.PROTOCOL, "internal", True, "unreadable"),
        (StopReason.START_FAILED, "internal", True, "could be started"),
    ],
)
def test_our_reason_goes_before_what_the_code_says(
    reason: StopReason, category: str, retryable: bool, message: str
) -> None:
    failure = Ending(-signal.SIGKILL, reason).failure()

    assert (failure.category, failure.retryable) == (category, retryable)
    assert message in failure.message
    assert failure.details["exit"] == "SIGKILL"


def test_a_failed_start_is_no_fault_of_the_document() -> None:
    assert Ending(7, StopReason.START_FAILED).failure().phase == "orchestration"


def test_a_kill_while_memory_ran_out_is_told_apart() -> None:
    assert "because memory ran out" in Ending(-9, None, oom_kills=1).failure().message
    assert "crashed" in Ending(-11, None, oom_kills=1).failure().message


@pytest.mark.parametrize("reason", StopReason)
def test_only_a_lost_worker_is_worth_another_try(reason: StopReason) -> None:
    lost = reason in (StopReason.CRASHED, StopReason.PROTOCOL, StopReason.PIPE_LOST)

    assert Ending(-9, reason).worth_another_try is lost
    assert Ending(-9, None).worth_another_try


def test_the_last_lines_of_a_lost_worker_belong_to_the_failure() -> None:
    lines = "x" * 5000 + "the end"

    details = Ending(-11, StopReason.CRASHED, last_lines=lines).failure().details
    assert len(details["worker_log"]) == 4000
    assert details["worker_log"].endswith("the end")


def test_the_last_lines_of_a_worker_we_stopped_do_not() -> None:
    assert "worker_log" not in Ending(-9, StopReason.CANCELLED, last_lines="x").failure().details


def test_of_a_worker_that_we_stopped_an_unknown_exit_is_not_told() -> None:
    assert "exit" not in Ending(None, StopReason.CANCELLED).failure().details
    assert Ending(None, StopReason.CRASHED).failure().details["exit"] == "unknown"


def test_failures_do_not_share_their_details() -> None:
    first, second = (Ending(1, StopReason.PROTOCOL).failure() for _ in range(2))
    first.details["attempts"] = "2"

    assert second == Failure(
        "internal",
        "The worker process sent something unreadable.",
        True,
        details={"exit": "code 1"},
    )


def test_kills_of_this_control_group_are_counted(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\nhigh 3\nmax 2\noom 1\noom_kill 4\n")

    assert oom_kill_count(tmp_path) == 4


def test_without_control_groups_nothing_is_counted(tmp_path: Path) -> None:
    assert oom_kill_count(tmp_path) == 0
