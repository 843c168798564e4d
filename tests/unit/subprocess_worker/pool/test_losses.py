from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from docling_serve.jobs.spec import JobSpec, StagedFile, TaskFolder
from docling_serve.subprocess_worker.pool.losses import REFUSED, PoisonList, request_hash


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _staged(parent: Path, task_id: str, text: bytes = b"text", **more: Any) -> TaskFolder:
    folder = TaskFolder.create(parent, task_id)
    folder.input(0).write_bytes(text)
    source = StagedFile(path="input/0", filename="a.pdf")
    folder.write_job(JobSpec(task_id=task_id, **{"sources": [source], **more}))
    return folder


def test_the_same_request_is_known_again(tmp_path: Path) -> None:
    poison = PoisonList()
    assert not poison

    poison.add(_staged(tmp_path, "first"))

    assert poison
    assert poison.matches(_staged(tmp_path, "second"))


@pytest.mark.parametrize(
    "change",
    [
        {"text": b"other text"},
        {"options": {"force_ocr": True}},
        {"task_type": "chunk"},
        {"sources": [{"kind": "http", "url": "http://example.com/a.pdf"}]},
    ],
)
def test_another_request_is_not(tmp_path: Path, change: dict[str, Any]) -> None:
    poison = PoisonList()
    poison.add(_staged(tmp_path, "first"))

    assert not poison.matches(_staged(tmp_path, "second", **change))


@pytest.mark.parametrize(
    "change",
    [
        {"targets": [{"kind": "zip"}]},
        {"callbacks": [{"url": "http://example.com"}]},
        {"debug_error_details": True},
    ],
)
def test_where_a_reply_goes_does_not_matter(tmp_path: Path, change: dict[str, Any]) -> None:
    assert request_hash(_staged(tmp_path, "first")) == request_hash(
        _staged(tmp_path, "second", **change)
    )


def test_a_request_is_forgotten_after_its_time(tmp_path: Path) -> None:
    clock = _Clock()
    poison = PoisonList(remember_s=60.0, clock=clock)
    folder = _staged(tmp_path, "first")
    poison.add(folder)

    clock.now += 59.9
    assert poison.matches(folder)
    clock.now += 0.1
    assert not poison.matches(folder)
    assert not poison


def test_a_document_that_is_gone_is_an_error(tmp_path: Path) -> None:
    folder = _staged(tmp_path, "first")
    folder.input(0).unlink()

    with pytest.raises(FileNotFoundError):
        request_hash(folder)


def test_the_refusal_says_that_it_is_no_use_to_try_again() -> None:
    assert not REFUSED.retryable
