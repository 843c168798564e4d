"""What operators and callbacks are told of the end of a task."""

from __future__ import annotations

import logging
from datetime import datetime, timezone

import pytest
from docling.datamodel.service.tasks import TaskType
from docling_jobkit.datamodel.task_meta import TaskStatus

from docling_serve.engines.base import TaskView
from docling_serve.engines.task_end import ended_event, log_end, log_ended_view
from docling_serve.errors import CANCELLED, Failure

LOG = logging.getLogger("docling_serve.tests.task_end")
BROKEN = Failure("backend_failure", "It is broken.", details={"document": "a.md"})


@pytest.mark.parametrize(
    ("failure", "started", "line"),
    [
        (None, 12.5, "task t: success after 4.000 s (waited 2.500 s, ran 1.500 s)"),
        (
            BROKEN,
            12.5,
            "task t: failure after 4.000 s (waited 2.500 s, ran 1.500 s):"
            " backend_failure: It is broken.",
        ),
        (
            CANCELLED,
            None,
            "task t: failure after 4.000 s (waited 4.000 s, ran 0.000 s):"
            " policy: The task was cancelled.",
        ),
    ],
)
def test_one_line_has_outcome_times_and_cause(
    failure: Failure | None, started: float | None, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger=LOG.name):
        log_end(LOG, "t", failure, accepted=10.0, started=started, ended=14.0)

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", line)
    ]


def test_a_view_has_the_times(caplog: pytest.LogCaptureFixture) -> None:
    accepted, started, ended = (datetime.fromtimestamp(at, timezone.utc) for at in (10, 11, 13))
    view = TaskView(
        *("t", TaskType.CONVERT, TaskStatus.FAILURE),
        failure=CANCELLED,
        created_at=accepted,
        started_at=started,
        finished_at=ended,
    )
    with caplog.at_level(logging.INFO, logger=LOG.name):
        log_ended_view(LOG, view)

    assert "failure after 3.000 s (waited 1.000 s, ran 2.000 s): policy" in caplog.text


def test_callbacks_are_told_the_cause() -> None:
    event = ended_event(BROKEN)

    assert (event["kind"], event["task_status"]) == ("task_completed", "failure")
    assert event["failure"]["category"] == "backend_failure"
    assert ended_event(None)["task_status"] == "success"
