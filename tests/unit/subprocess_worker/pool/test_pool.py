"""The front door, with scripted workers behind it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from docling_serve.jobs.stages import Stage
from docling_serve.subprocess_worker import WorkerConfig
from tests.helpers import scriptable_child
from tests.helpers.loops import ON_BOTH_LOOPS, until
from tests.helpers.pools import (
    Gate,
    ScriptedJob,
    open_pool,
)

pytestmark = [
    pytest.mark.usefixtures("nothing_is_left"),
    ON_BOTH_LOOPS,
]


# ---- a job ---------------------------------------------------------------------------------------


async def test_a_job_is_run_and_its_reply_left_in_its_folder(tmp_path: Path) -> None:
    job = ScriptedJob.make(tmp_path, progress=3)
    async with open_pool() as pool:
        result = await job.run(pool)

        assert job.folder.result_file(result).read_bytes() == scriptable_child.REPLY
        assert job.started.is_set()
        assert [progress.completed_pages for progress in job.progress] == [1, 2, 3]
        assert job.facts == {"pid": job.pid}
        assert pool.metrics.as_dict()["tasks"] == 1
        assert pool.metrics.total_overhead > 0


async def test_what_a_worker_prints_is_printed_by_the_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_pool() as pool:
        await ScriptedJob.make(tmp_path, say="from the worker").run(pool)
    assert "from the worker" in capsys.readouterr().err


async def test_ten_thousand_signs_of_progress_arrive(tmp_path: Path) -> None:
    job = ScriptedJob.make(tmp_path, progress=10_000)
    async with open_pool() as pool:
        await job.run(pool)

        assert [p.completed_pages for p in job.progress] == list(range(1, 10_001))


async def test_only_a_job_that_a_start_is_for_waits_for_a_worker(tmp_path: Path) -> None:
    first, second = (ScriptedJob.make(tmp_path) for _ in range(2))
    async with open_pool() as pool:
        await asyncio.gather(first.run(pool), second.run(pool))

    assert first.stages == [Stage.STARTING_WORKER]
    assert second.stages == []


# ---- starts that fail ----------------------------------------------------------------------------


async def test_jobs_fail_after_several_failed_starts(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    worker = WorkerConfig(converter_config={"gate": str(gate.path)})
    async with open_pool(main=scriptable_child.exits_at_start, worker=worker) as pool:
        failing = [
            asyncio.ensure_future(ScriptedJob.make(tmp_path).failure(pool)) for _ in range(2)
        ]
        await until(lambda: pool.snapshot().waiting == 2)
        gate.open()

        for failure in await asyncio.gather(*failing):
            assert "could be started" in failure.message
            assert (failure.category, failure.phase) == ("internal", "orchestration")
            assert failure.retryable
        assert pool.metrics.workers_started == 3
        assert pool.metrics.stops == {"start_failed": 3}


async def test_a_job_survives_one_failed_start(tmp_path: Path) -> None:
    worker = WorkerConfig(converter_config={"marker": str(tmp_path / "failed-once")})
    main = scriptable_child.exits_at_first_start
    async with open_pool(main=main, worker=worker) as pool:
        await ScriptedJob.make(tmp_path).run(pool)

        assert pool.metrics.stops["start_failed"] == 1
