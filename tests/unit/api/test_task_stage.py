"""The words of a status."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from docling.datamodel.service.tasks import TaskType
from docling_jobkit.datamodel.task_meta import TaskStatus

from docling_serve.api.task_stage import sentence, stage_of, tasks_ahead
from docling_serve.engines.base import TaskView
from docling_serve.jobs.spec import JobProgress, JobResult
from docling_serve.jobs.stages import Stage

_ACCEPTED = datetime(2030, 1, 1, tzinfo=timezone.utc)
_STARTED = _ACCEPTED + timedelta(seconds=0.1)
_WAITS = TaskView("a", TaskType.CONVERT, TaskStatus.PENDING, 1, created_at=_ACCEPTED)
_RUNS = replace(_WAITS, status=TaskStatus.STARTED, position=None, started_at=_STARTED)
_ENDED = replace(_RUNS, finished_at=_STARTED + timedelta(seconds=3))


def _result(converted: int, failed: int) -> JobResult:
    return JobResult(
        body="b", media_type="c", processing_time=3, num_converted=converted, num_failed=failed
    )


@pytest.mark.parametrize(
    ("view", "stage", "words"),
    [
        (replace(_WAITS, ahead=0), Stage.QUEUED, "queued"),
        (replace(_WAITS, ahead=0, expected_wait_s=0.0), Stage.QUEUED, "queued"),
        (
            replace(_WAITS, ahead=2, expected_wait_s=12.4),
            Stage.QUEUED,
            "queued (2 ahead, expected wait 12 s)",
        ),
        (replace(_WAITS, ahead=1), Stage.QUEUED, "queued (1 ahead)"),
        (replace(_WAITS, position=3), Stage.QUEUED, "queued (2 ahead)"),
        (
            replace(_WAITS, waits_in=Stage.STARTING_WORKER),
            Stage.STARTING_WORKER,
            "starting a worker",
        ),
        (
            replace(_RUNS, waits_in=Stage.WAITING_FOR_GPU),
            Stage.WAITING_FOR_GPU,
            "waiting for GPU memory",
        ),
        (
            replace(_RUNS, progress=JobProgress(phase="starting_worker")),
            Stage.STARTING_WORKER,
            "starting a worker",
        ),
        (
            replace(_RUNS, progress=JobProgress(phase="initialize")),
            Stage.LOADING_MODELS,
            "loading models",
        ),
        (
            replace(_RUNS, progress=JobProgress(phase="initialize"), light=True),
            Stage.CONVERTING,
            "converting",
        ),
        (
            replace(_RUNS, progress=JobProgress(phase="build", completed_pages=4, total_pages=24)),
            Stage.CONVERTING,
            "page 4 of 24",
        ),
        (
            replace(
                _RUNS,
                progress=JobProgress(
                    phase="build", document=2, num_docs=3, completed_pages=4, total_pages=24
                ),
            ),
            Stage.CONVERTING,
            "document 2 of 3, page 4 of 24",
        ),
        (
            replace(_ENDED, status=TaskStatus.SUCCESS, result=_result(1, 0)),
            Stage.DONE,
            "done (waited 0.1 s, converted 3.0 s)",
        ),
        (
            replace(_ENDED, status=TaskStatus.SUCCESS, result=_result(3, 1)),
            Stage.DONE,
            "done, 1 of 3 documents failed (waited 0.1 s, converted 3.0 s)",
        ),
        (
            replace(_ENDED, status=TaskStatus.SUCCESS, result=_result(1, 1)),
            Stage.DONE,
            "failed (waited 0.1 s, converted 3.0 s)",
        ),
        (replace(_ENDED, status=TaskStatus.FAILURE), Stage.FAILED, "failed (waited 0.1 s,"),
    ],
)
def test_every_stage_has_its_words(view: TaskView, stage: Stage, words: str) -> None:
    assert stage_of(view) is stage
    assert sentence(view).startswith(words)


def test_nothing_is_ahead_of_a_task_whose_turn_has_come() -> None:
    assert tasks_ahead(replace(_WAITS, ahead=1)) == 1
    assert tasks_ahead(replace(_WAITS, ahead=1, waits_in=Stage.STARTING_WORKER)) is None
    assert tasks_ahead(_RUNS) is None
