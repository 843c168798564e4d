"""What is said of a task in the log, and that no move is made which the table does not have."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest

from docling_serve.engines.base import DEFAULT_TENANT
from docling_serve.engines.local.states import TaskState
from docling_serve.errors import Failure, TaskFailed
from tests.helpers.loops import turns
from tests.unit.engines.hand_runner import CAUSE, HandRunner, finished, opened, submission, submit

SECONDS = re.compile(r"\d+\.\d{3} s")


def said(caplog: pytest.LogCaptureFixture, level: int, task_id: str) -> list[str]:
    """What the log has of a task, with every number of seconds as N."""
    return [
        SECONDS.sub("N", record.getMessage()).removeprefix(f"task {task_id}: ")
        for record in caplog.records
        if record.name.startswith("docling_serve") and record.levelno == level
    ]


async def test_an_operator_reads_one_line_at_acceptance_and_one_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        runner = HandRunner()
        async with opened(tmp_path, runner) as engine:
            (task,) = await submit(engine, 1)
            runner.end(task)
            await finished(engine, task)

    assert said(caplog, logging.INFO, task) == [
        "accepted, 1 document(s), 1 waiting",
        "success after N (waited N, ran N)",
    ]
    assert said(caplog, logging.DEBUG, task) == [
        "queued -> handed_over",
        "handed_over -> started",
        "started -> ending",
        "ending -> success",
    ]


async def test_the_line_of_a_failure_has_its_cause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        runner = HandRunner()
        async with opened(tmp_path, runner) as engine:
            (task,) = await submit(engine, 1)
            runner.end(task, TaskFailed(Failure("policy", "No.")))
            await finished(engine, task)

    assert said(caplog, logging.INFO, task)[1:] == [
        "failure after N (waited N, ran N): policy: No."
    ]


async def test_the_times_of_a_task_that_never_began_are_all_waiting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with opened(tmp_path, HandRunner()) as engine:
            _, waiting = await submit(engine, 2)
            caplog.clear()
            await engine.cancel(waiting, DEFAULT_TENANT, CAUSE)
            (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]
            total, waited, ran = SECONDS.findall(line)

            assert (total, ran) == (waited, "0.000 s")


async def test_a_move_that_is_not_in_the_table_is_refused(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        (task,) = await submit(engine, 1)
        runner.end(task)
        await finished(engine, task)
        record = engine._records[task]
        with pytest.raises(AssertionError, match="success to started"):
            engine._conductor._move(record, replace(record.row, state=TaskState.STARTED))

        assert record.state is TaskState.SUCCESS


async def test_the_first_cause_to_stop_a_task_counts(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        view = await engine.submit(submission())
        await turns(5)
        record = engine._records[view.task_id]
        engine._conductor.cancel(record, CAUSE)
        assert record.state is TaskState.STOPPING
        engine.cancel_running()

        assert (await finished(engine, view.task_id)).failure == CAUSE


async def test_a_task_that_is_told_to_stop_does_not_begin(tmp_path: Path) -> None:
    runner = HandRunner(slots=0)
    async with opened(tmp_path, runner) as engine:
        (task,) = await submit(engine, 1)
        record = engine._records[task]
        assert record.state is TaskState.HANDED_OVER
        engine._conductor.cancel(record, CAUSE)
        runner.requests[task].listeners.on_started()

        assert (await finished(engine, task)).started_at is None
        assert record.row.attempts == 0
