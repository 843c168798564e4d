"""The time that a whole task may take."""

from __future__ import annotations

from pathlib import Path

import pytest

from docling_serve.errors import TaskTimedOut
from docling_serve.jobs.run_request import RunRequest
from docling_serve.subprocess_worker.pool.runner import run_task
from tests.helpers.pools import ScriptedJob, open_pool


@pytest.mark.parametrize(
    ("light", "light_s", "limit"),
    [
        (True, 0.2, "subprocess_light_timeout"),
        (True, 0, "subprocess_timeout"),
        (False, 0.2, "subprocess_timeout"),
        (True, 900, "subprocess_timeout"),
    ],
)
async def test_a_task_without_models_has_a_limit_of_its_own(
    tmp_path: Path, light: bool, light_s: float, limit: str
) -> None:
    job = ScriptedJob.make(tmp_path, do="hang", at="after_ack")
    request = RunRequest(job.folder.read_job(), job.folder, light)
    async with open_pool(start_method="forkserver", light_timeout_s=light_s) as pool:
        with pytest.raises(TaskTimedOut) as stopped:
            await run_task(pool, request, 0.4)
    assert stopped.value.failure.details["limit"] == limit
