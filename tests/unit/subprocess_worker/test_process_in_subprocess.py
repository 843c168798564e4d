"""The function in front of the pool: plain data in, plain data out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from docling_serve.errors import TaskNotTransferable, TaskTimedOut
from docling_serve.jobs.spec import JobResult, TaskFolder
from docling_serve.subprocess_worker import (
    WorkerPoolConfig,
    close_worker_pool,
    get_worker_pool,
    process_in_subprocess,
)
from tests.helpers import scriptable_child
from tests.helpers.pools import open_pool

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def task(**options: Any) -> dict[str, Any]:
    return {"task_id": "t-1", "sources": [], "options": options}


async def test_a_success_tells_where_the_reply_is(tmp_path: Path) -> None:
    async with open_pool() as pool:
        answer = await process_in_subprocess(task(), 20, folder=tmp_path, pool=pool)

    assert answer["status"] == "success"
    assert answer["results"]["folder"] == str(tmp_path)
    told = {k: v for k, v in answer["results"].items() if k != "folder"}
    result = JobResult.model_validate(told)
    assert TaskFolder(tmp_path).result_file(result).read_bytes() == scriptable_child.REPLY
    assert json.loads(json.dumps(answer)) == answer


async def test_a_failure_is_an_answer_too(tmp_path: Path) -> None:
    async with open_pool() as pool:
        answer = await process_in_subprocess(task(do="fail"), 20, folder=tmp_path, pool=pool)

    assert answer == {
        "status": "error",
        "error": {
            "category": "policy",
            "message": "The script said so.",
            "retryable": False,
            "phase": "execution",
            "details": {"why": "script"},
        },
    }


async def test_a_time_out_is_raised(tmp_path: Path) -> None:
    async with open_pool() as pool:
        with pytest.raises(TaskTimedOut):
            await process_in_subprocess(task(do="hang"), 0.1, folder=tmp_path, pool=pool)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sources": [io.BytesIO()]}, "sources.0"),
        ({"options": {"page_range": {1, 2}}}, "options.page_range"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
async def test_what_cannot_be_handed_over_is_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    async with open_pool() as pool:
        with pytest.raises(TaskNotTransferable) as refusal:
            await process_in_subprocess({**task(), **change}, folder=tmp_path, pool=pool)

        assert refusal.value.field == field
        assert pool.workers() == []
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, as Python sees it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


async def test_without_a_folder_one_is_made_and_left_to_the_caller(temporary: Path) -> None:
    async with open_pool() as pool:
        answer = await process_in_subprocess(task(), 20, pool=pool)
    results: dict[str, Any] = answer["results"]
    folder = Path(results["folder"])
    assert folder.parent == temporary
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / results["body"]).read_bytes() == scriptable_child.REPLY


async def test_a_folder_made_for_a_task_that_failed_is_removed(temporary: Path) -> None:
    async with open_pool() as pool:
        answer = await process_in_subprocess(task(do="fail"), 20, pool=pool)
        assert answer["status"] == "error"
        with pytest.raises(TaskTimedOut):
            await process_in_subprocess(task(do="hang"), 0.1, pool=pool)
    assert list(temporary.iterdir()) == []


async def test_the_pool_of_this_process_is_made_once_and_anew_after_it_was_closed() -> None:
    first = get_worker_pool(WorkerPoolConfig(max_workers=3))
    try:
        assert get_worker_pool() is first
        assert first.config.max_workers == 3
    finally:
        await close_worker_pool()
    second = get_worker_pool()
    await close_worker_pool()
    await close_worker_pool()

    assert second is not first
    assert second.config.max_workers == 1
