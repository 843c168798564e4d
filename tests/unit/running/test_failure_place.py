"""Where a task was when it was stopped, or its worker was lost."""

from __future__ import annotations

from docling_serve.errors import CANCELLED, Failure
from docling_serve.jobs.spec import JobProgress, JobSpec, RemoteUrl, StagedFile
from docling_serve.running.failure_place import with_place

SPEC = JobSpec(
    task_id="t",
    sources=[StagedFile(path="input/0", filename="a.pdf"), RemoteUrl(url="http://host/b.pdf")],
)
TIMED_OUT = Failure("timeout", "The task was stopped.", details={"limit": "subprocess_timeout"})


def test_the_document_at_work_is_named() -> None:
    progress = JobProgress(phase="build", document=1, completed_pages=3, total_pages=9)

    assert with_place(TIMED_OUT, SPEC, progress).details == {
        "limit": "subprocess_timeout",
        "document": "a.pdf",
        "document_number": "1",
        "doing": "build",
        "pages_done": "3 of 9",
    }


def test_a_document_whose_name_is_not_known_has_a_number() -> None:
    details = with_place(TIMED_OUT, SPEC, JobProgress(phase="initialize", document=2)).details

    assert details["document_number"] == "2"
    assert "document" not in details
    assert "pages_done" not in details


def test_what_has_a_place_keeps_it() -> None:
    failure = Failure("internal", "no", details={"document": "b.pdf", "document_number": "2"})

    assert with_place(failure, SPEC, JobProgress(phase="build", document=1)) is failure


def test_nothing_is_guessed() -> None:
    assert with_place(TIMED_OUT, SPEC, None) is TIMED_OUT
    assert with_place(CANCELLED, SPEC, JobProgress(phase="build", document=1)) is CANCELLED
