"""The life of a task in the local engine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from docling.datamodel.service.callbacks import CallbackSpec
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.targets import ZipTarget
from docling.datamodel.service.tasks import TaskType
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.base_orchestrator import TaskNotFoundError

from docling_serve.engines.base import DEFAULT_TENANT, Upload, plain
from docling_serve.errors import Failure, TaskFailed, TaskTimedOut
from docling_serve.jobs.spec import JobProgress, JobSpec, StagedFile
from tests.helpers.loops import PATIENCE_S, turns
from tests.unit.engines.hand_runner import (
    REPLY,
    HandRunner,
    finished,
    left_in,
    opened,
    positions,
    statuses,
    submission,
    submit,
)

# ---- the queue -----------------------------------------------------------------------------------


async def test_a_task_waits_starts_and_ends(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        accepted = await engine.submit(submission())
        assert (accepted.status, accepted.position) == (TaskStatus.PENDING, 1)
        await turns(5)
        started = await engine.view(accepted.task_id)
        assert (started.status, started.position) == (TaskStatus.STARTED, None)
        runner.end(accepted.task_id)
        ended = await finished(engine, accepted.task_id)

        assert (ended.status, ended.position, ended.failure) == (
            TaskStatus.SUCCESS,
            None,
            None,
        )
        assert ended.num_docs == 1
        assert ended.task_type is TaskType.CONVERT


async def test_tasks_run_in_order(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        tasks = await submit(engine, 4)
        for task in reversed(tasks):
            runner.end(task)
        for task in tasks:
            await finished(engine, task)

        assert runner.started == tasks


async def test_no_more_tasks_are_handed_over_than_may_be(tmp_path: Path) -> None:
    runner = HandRunner(slots=10)
    async with opened(tmp_path, runner, hand_over=2) as engine:
        tasks = await submit(engine, 4)
        assert runner.handed == tasks[:2]
        runner.end(tasks[1])
        await finished(engine, tasks[1])
        await turns(5)

        assert runner.handed == tasks[:3]


async def test_a_task_counts_as_started_when_the_runner_says_so(tmp_path: Path) -> None:
    """The runner is handed one more than it can run, and that one still waits."""
    runner = HandRunner(slots=1)
    async with opened(tmp_path, runner, hand_over=2) as engine:
        tasks = await submit(engine, 3)

        assert runner.handed == tasks[:2]
        assert await statuses(engine, tasks) == ["started", "pending", "pending"]
        assert await positions(engine, tasks) == [None, 1, 2]
        assert engine.waiting == 2
        runner.end(tasks[0])
        await finished(engine, tasks[0])
        await turns(5)
        assert await statuses(engine, tasks) == ["success", "started", "pending"]
        assert await positions(engine, tasks) == [None, None, 1]


async def test_light_tasks_have_a_line_of_their_own(tmp_path: Path) -> None:
    runner = HandRunner(slots=10)
    async with opened(tmp_path, runner, hand_over_light=1) as engine:
        heavy = await submit(engine, 2, name="h.pdf")
        quick = await submit(engine, 2, name="l.md")

        assert set(runner.handed) == {heavy[0], quick[0]}
        runner.end(quick[0])
        await finished(engine, quick[0])
        await turns(5)
        assert quick[1] in runner.handed
        assert heavy[1] not in runner.handed


async def test_without_a_light_line_all_tasks_wait_in_one(tmp_path: Path) -> None:
    runner = HandRunner(slots=10)
    async with opened(tmp_path, runner) as engine:
        tasks = await submit(engine, 2, name="l.md")

        assert runner.handed == tasks[:1]


# ---- waiting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("already", range(6))
async def test_who_waits_is_woken_at_the_end(tmp_path: Path, already: int) -> None:
    """Whatever the waiter has got to do when the end comes."""
    async with opened(tmp_path, HandRunner(), hand_over=1) as engine:
        _, waiting = await submit(engine, 2)
        waiter = asyncio.create_task(engine.wait_finished(waiting, DEFAULT_TENANT, 600))
        await turns(already)
        engine.drain()
        woken, _ = await asyncio.wait({waiter}, timeout=PATIENCE_S)
        waiter.cancel()

        assert woken, "it waits on, though the task has ended"


async def test_all_who_wait_are_woken(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        (task,) = await submit(engine, 1)
        waiters = [asyncio.create_task(finished(engine, task)) for _ in range(5)]
        await turns(3)
        runner.requests[task].listeners.on_progress(JobProgress(phase="build"))
        await turns(3)
        assert not any(waiter.done() for waiter in waiters)
        runner.end(task)

        assert {(await waiter).status for waiter in waiters} == {TaskStatus.SUCCESS}


@pytest.mark.parametrize("wait_s", [0, 0.01])
async def test_a_wait_that_is_over_tells_how_it_stands(tmp_path: Path, wait_s: float) -> None:
    async with opened(tmp_path, HandRunner()) as engine:
        (task,) = await submit(engine, 1)
        view = await engine.wait_finished(task, DEFAULT_TENANT, wait_s)

        assert view.status is TaskStatus.STARTED


async def test_a_watch_sees_every_state(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        first, second = await submit(engine, 2)
        seen: list[tuple[str, int | None, int | None]] = []
        async with engine.watch(second) as watch:
            runner.end(first)
            runner.end(second)
            async for state in watch:
                seen.append((state.status.value, state.position, state.ahead))

        assert seen == [
            ("pending", 1, 1),
            ("pending", 1, 0),
            ("started", None, None),
            ("success", None, None),
        ]


async def test_progress_is_shown(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        (task,) = await submit(engine, 1)
        progress = JobProgress(phase="build", completed_pages=3, total_pages=7)
        runner.requests[task].listeners.on_progress(progress)

        assert (await engine.view(task)).progress == progress


async def test_progress_of_a_task_that_is_gone_is_nothing(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        (task,) = await submit(engine, 1)
        await engine.delete_task(task)
        runner.requests[task].listeners.on_progress(JobProgress(phase="build"))

        with pytest.raises(TaskNotFoundError):
            await engine.view(task)


# ---- the end -------------------------------------------------------------------------------------


async def test_the_reply_of_a_success_stays_and_its_documents_go(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        (task,) = await submit(engine, 1)
        folder = tmp_path / task
        assert (folder / "input" / "0").read_bytes() == b"# a"
        assert await engine.reply(task) is None
        runner.end(task)
        await finished(engine, task)
        reply = await engine.reply(task)

        assert reply is not None
        assert reply.path is not None
        assert reply.path.read_bytes() == REPLY
        assert (reply.media_type, reply.download_name) == ("text/plain", None)
        assert left_in(folder) == ["result.body"]


@pytest.mark.parametrize(
    ("error", "category", "says"),
    [
        (TaskFailed(Failure("policy", "No.")), "policy", "No."),
        (TaskTimedOut(Failure("timeout", "Too long.")), "timeout", "Too long."),
        (RuntimeError("of /our/own/paths"), "internal", "(RuntimeError)"),
        (KeyError("task"), "internal", "(KeyError)"),
    ],
)
async def test_a_failure_has_its_cause_and_leaves_nothing(
    tmp_path: Path, error: Exception, category: str, says: str
) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        failing, following = await submit(engine, 2)
        runner.end(failing, error)
        runner.end(following)
        view = await finished(engine, failing)

        assert view.status is TaskStatus.FAILURE
        assert view.failure is not None
        assert view.failure.category == category
        assert says in view.failure.message
        assert "/our/own" not in view.failure.message
        assert await engine.reply(failing) is None
        assert not (tmp_path / failing).exists()
        assert (await finished(engine, following)).status is TaskStatus.SUCCESS
        task = await engine.get_raw_task(failing)
        assert task.error_message == view.failure.message
        assert task.failure is not None
        assert task.failure.category.value == category


# ---- submitting ----------------------------------------------------------------------------------


class _Unreadable:
    def seek(self, *_: int) -> int:
        return 0

    def read(self, _: int = -1) -> bytes:
        raise OSError(28, "No space left on device")


async def test_a_document_that_cannot_be_staged_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, HandRunner()) as engine:
        upload = Upload("a.md", _Unreadable())  # type: ignore[arg-type]
        with pytest.raises(OSError, match="No space left"):
            await engine.submit(submission(sources=[upload]))

        assert left_in(tmp_path) == []
        assert engine.waiting == 0


async def test_callbacks_are_relayed_with_their_task(tmp_path: Path) -> None:
    relayed: list[Any] = []
    spec = CallbackSpec(url="https://example.com/hook")

    def on_callback(*event: Any) -> None:
        relayed.append(event)

    runner = HandRunner()
    async with opened(tmp_path, runner, on_callback=on_callback) as engine:
        (task,) = await submit(engine, 1, callbacks=[spec])
        runner.requests[task].listeners.on_callback({"kind": "set_num_docs"})

        assert relayed == [(task, [spec], {"kind": "set_num_docs"})]


async def test_the_runner_is_told_everything_about_a_task(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner, converter_config={"a": 1}) as engine:
        view = await engine.submit(
            submission(
                targets=[ZipTarget()],
                task_type=TaskType.CHUNK,
                include_converted_doc=True,
                target_document_version="1.8.0",
            )
        )
        await turns(5)
        request = runner.requests[view.task_id]

        assert request.light
        assert (
            request.spec
            == request.folder.read_job()
            == JobSpec(
                task_id=view.task_id,
                task_type="chunk",
                sources=[StagedFile(path="input/0", filename="a.md")],
                options=plain(ConvertDocumentsOptions()),
                targets=[{"kind": "zip"}],
                include_converted_doc=True,
                target_document_version="1.8.0",
                converter_config={"a": 1},
            )
        )


# ---- listing -------------------------------------------------------------------------------------


async def test_a_tenant_lists_its_own_tasks_the_newest_first(tmp_path: Path) -> None:
    runner = HandRunner()
    async with opened(tmp_path, runner) as engine:
        tasks = await submit(engine, 3, tenant="acme")
        await submit(engine, 1, tenant="other")
        runner.end(tasks[0])
        await finished(engine, tasks[0], "acme")
        await turns(5)

        async def listed(**asked: Any) -> list[str]:
            return [view.task_id for view in await engine.list_tasks("acme", **asked)]

        assert await listed() == tasks[::-1]
        assert await listed(limit=2) == tasks[:0:-1]
        assert await listed(state=TaskStatus.SUCCESS) == tasks[:1]
        assert await listed(state=TaskStatus.PENDING) == tasks[2:]
        (done,) = await engine.list_tasks("acme", state=TaskStatus.SUCCESS)
        assert done.created_at is not None
        assert done.finished_at is not None
        assert done.created_at <= done.finished_at
