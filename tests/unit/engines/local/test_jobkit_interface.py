"""The local engine as docling-jobkit's users see it."""

from __future__ import annotations

from pathlib import Path

import pytest
from docling.datamodel.service.callbacks import ProgressCallbackRequest
from docling.datamodel.service.targets import ZipTarget
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.base_orchestrator import TaskNotFoundError

from docling_serve.jobs.run_request import RunRequest
from docling_serve.jobs.spec import JobResult
from tests.helpers.loops import turns
from tests.unit.engines.hand_runner import (
    HandRunner,
    finished,
    opened,
    submission,
    submit,
)


async def test_jobkit_may_use_it_as_any_orchestrator(tmp_path: Path) -> None:
    runner = HandRunner()
    cleared: list[bool] = []

    async def clear() -> None:
        cleared.append(True)

    async with opened(tmp_path, runner, clear_converters=clear) as engine:
        upload = submission().sources[0]
        first = await engine.enqueue([upload], metadata={"tenant_id": "acme"})
        second = await engine.enqueue([submission().sources[0]], ZipTarget())
        await turns(5)

        assert await engine.queue_size() == 1
        assert await engine.get_queue_position(second.task_id) == 1
        assert await engine.get_queue_position("no-such-task") is None
        runner.end(first.task_id)
        ended = await engine.task_status(first.task_id, wait=5)
        assert ended.task_status is TaskStatus.SUCCESS
        assert await engine.task_result(first.task_id) is None
        assert (await engine.view(first.task_id, "acme")).finished
        await engine.clear_converters()
        assert cleared == [True]
        await engine.check_connection()
        await engine.warm_up_caches()
        progress = {"kind": "set_num_docs", "num_docs": 1}
        for task_id in (first.task_id, "no-such-task"):
            request = ProgressCallbackRequest(task_id=task_id, progress=progress)
            if task_id == first.task_id:
                await engine.receive_task_progress(request)
            else:
                with pytest.raises(TaskNotFoundError):
                    await engine.receive_task_progress(request)


async def test_a_result_of_the_runner_is_the_tasks_result(tmp_path: Path) -> None:
    expected = JobResult(body="b", media_type="application/zip", processing_time=2.0)

    async def runner(request: RunRequest) -> JobResult:
        (request.folder.root / "b").touch()
        return expected

    async with opened(tmp_path, runner) as engine:
        (task,) = await submit(engine, 1)

        assert (await finished(engine, task)).result == expected
