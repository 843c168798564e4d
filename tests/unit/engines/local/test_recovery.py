"""What becomes of tasks when the server ends, by the book or by ``kill -9``."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from docling.datamodel.service.callbacks import CallbackSpec
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.base_orchestrator import TaskNotFoundError

from docling_serve.engines.base import DEFAULT_TENANT, TaskView
from docling_serve.engines.local.engine import LocalEngine
from docling_serve.engines.local.recovery import FILES_GONE, LOST
from docling_serve.errors import SHUT_DOWN, Failure, ShuttingDown, TaskFailed
from docling_serve.jobs.spec import MergeSlices, TaskFolder
from tests.helpers.loops import turns, until
from tests.unit.engines.hand_runner import REPLY, HandRunner, finished, left_in, submission, submit
from tests.unit.engines.kept_server import assert_sound, image, kept_server

WORKER_LOST = Failure("internal", "The worker process was lost.", retryable=True)


async def started(engine: LocalEngine, task_id: str) -> None:
    """Once the start of a task is in the journal."""
    while (await engine.view(task_id)).status is not TaskStatus.STARTED:
        await turns(1)
    await engine._journal.tasks()


async def killed_with_three_tasks(folder: Path) -> tuple[Path, list[str]]:
    """A server that was killed: of three tasks one has succeeded, one runs, one waits."""
    runner = HandRunner()
    async with kept_server(folder, runner) as engine:
        tasks = await submit(engine, 3)
        runner.end(tasks[0])
        await finished(engine, tasks[0])
        await started(engine, tasks[1])
        return image(folder), tasks


# ---- kill -9 -------------------------------------------------------------------------------------


async def test_the_next_server_goes_on_where_the_killed_one_was(tmp_path: Path) -> None:
    folder, (done, ran, waited) = await killed_with_three_tasks(tmp_path / "scratch")
    runner = HandRunner()
    async with kept_server(folder, runner) as engine:
        view = await engine.view(done)
        assert view.status is TaskStatus.SUCCESS
        reply = await engine.reply(done)
        assert reply is not None
        assert reply.path is not None
        assert reply.path.read_bytes() == REPLY

        for task in (ran, waited):
            runner.end(task)
            assert (await finished(engine, task)).status is TaskStatus.SUCCESS
        assert runner.started == [ran, waited]
    assert_sound(folder)


async def test_the_next_server_knows_how_long_tasks_take(tmp_path: Path) -> None:
    """What it tells those who wait is no guess."""
    runner = HandRunner()
    async with kept_server(tmp_path / "scratch", runner) as engine:
        (done,) = await submit(engine, 1)
        runner.end(done)
        await finished(engine, done)
        folder = image(tmp_path / "scratch")

    runner = HandRunner()
    async with kept_server(folder, runner) as engine:
        await submit(engine, 3)
        await until(lambda: runner.started)
        (line,) = [line for line in engine._lines.all() if len(line)]
        row = engine._records[done].row
        assert row.started is not None
        assert row.finished is not None
        assert line.times.average_s == row.finished - row.started


async def test_a_task_that_takes_the_server_down_is_given_up(tmp_path: Path) -> None:
    folder, (_, ran, waited) = await killed_with_three_tasks(tmp_path / "scratch")
    for _ in range(2):
        async with kept_server(folder, HandRunner()) as engine:
            await started(engine, ran)
            folder = image(folder)
    runner = HandRunner()
    async with kept_server(folder, runner) as engine:
        assert (await finished(engine, ran)).failure == LOST
        runner.end(waited)
        assert (await finished(engine, waited)).status is TaskStatus.SUCCESS
        assert runner.started == [waited]
        assert sorted(left_in(folder / "tasks")) != [], "results stay"
        assert ran not in left_in(folder / "tasks")


async def test_callbacks_hear_of_an_end_that_a_killed_server_did_not_tell(tmp_path: Path) -> None:
    spec = CallbackSpec(url="https://example.com/hook", headers={"X-Key": "k"})

    def never_done(_: str) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    runner, told = HandRunner(), list[Any]()
    async with kept_server(tmp_path / "scratch", runner) as engine:
        done, failed = await submit(engine, 2, callbacks=[spec])
        runner.end(done)
        await finished(engine, done)
        engine._journal.mark_callbacks_queued = never_done  # type: ignore[method-assign]
        runner.end(failed, TaskFailed(Failure("policy", "No.")))
        await finished(engine, failed)
        folder = image(tmp_path / "scratch")

    for _ in range(2):
        async with kept_server(
            folder, HandRunner(), on_callback=lambda *event: told.append(event)
        ) as engine:
            await engine._journal.tasks()  # what was asked before is written
            folder = image(folder)

    ((task, callbacks, event),) = told
    assert (task, callbacks) == (failed, [spec]), "and it was told once"
    assert (event["kind"], event["task_status"]) == ("task_completed", "failure")
    assert event["failure"]["message"] == "No."


async def test_failures_are_told_again(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    cause = Failure("backend_failure", "It is broken.", details={"document": "a.md"})
    runner = HandRunner()
    async with kept_server(folder, runner) as engine:
        (task,) = await submit(engine, 1)
        runner.end(task, TaskFailed(cause))
        before = await finished(engine, task)
    async with kept_server(folder, HandRunner()) as engine:
        after = await engine.view(task)
        assert after.failure == cause
        assert after.status is before.status
        assert after.created_at == before.created_at


async def test_a_folder_without_a_row_was_never_accepted(tmp_path: Path) -> None:
    half = tmp_path / "scratch" / "tasks" / "half-written" / "input"
    half.mkdir(parents=True)
    (half / "0").write_text("# a")
    async with kept_server(tmp_path / "scratch", HandRunner()) as engine:
        assert await engine.list_tasks(DEFAULT_TENANT) == []

    assert left_in(tmp_path / "scratch" / "tasks") == []


async def test_a_task_that_was_in_parts_runs_from_its_beginning(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    async with kept_server(folder, HandRunner()) as engine:
        (task,) = await submit(engine, 1)
        at_work = TaskFolder(folder / "tasks" / task)
        whole = at_work.read_job()
        at_work.write_job(whole.model_copy(update={"part": MergeSlices(files=["x"])}))
        folder = image(folder)
    runner = HandRunner()
    async with kept_server(folder, runner):
        await turns(5)
        request = runner.requests[task]
        assert request.spec == request.folder.read_job() == whole


@pytest.mark.parametrize("gone", ["job.json", "."])
async def test_a_row_without_its_files_fails_and_says_so(tmp_path: Path, gone: str) -> None:
    folder, (_, ran, waited) = await killed_with_three_tasks(tmp_path / "scratch")
    path = folder / "tasks" / waited / gone
    path.unlink() if path.is_file() else path.rename(tmp_path / "elsewhere")
    runner = HandRunner()
    runner_ends = runner.end
    async with kept_server(folder, runner) as engine:
        runner_ends(ran)
        assert (await finished(engine, waited)).failure == FILES_GONE
        assert (await finished(engine, ran)).status is TaskStatus.SUCCESS


async def test_a_result_without_its_file_has_failed(tmp_path: Path) -> None:
    folder, (done, *_) = await killed_with_three_tasks(tmp_path / "scratch")
    (folder / "tasks" / done / "result.body").unlink()
    async with kept_server(folder, HandRunner()) as engine:
        assert (await engine.view(done)).failure == FILES_GONE


async def test_nobody_asks_for_the_task_of_a_connection_that_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    async with kept_server(folder, HandRunner()) as engine:
        plain = await engine.submit(submission(attached=True))
        keyed = await engine.submit(submission(attached=True, idempotency_key="k"))
        folder = image(folder)
    async with kept_server(folder, HandRunner()) as engine:
        with pytest.raises(TaskNotFoundError):
            await engine.view(plain.task_id)
        assert (await engine.view(keyed.task_id)).status is TaskStatus.PENDING


async def test_a_retry_finds_its_task_in_the_next_server(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    async with kept_server(folder, HandRunner()) as engine:
        first = await engine.submit(submission(idempotency_key="k"))
        folder = image(folder)
    async with kept_server(folder, HandRunner()) as engine:
        again = await engine.submit(submission(idempotency_key="k"))
        assert again.task_id == first.task_id


async def test_the_next_server_runs_tasks_with_its_own_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    async with kept_server(folder, HandRunner(), converter_config={"a": 1}) as engine:
        (task,) = await submit(engine, 1)
        folder = image(folder)
    runner = HandRunner()
    async with kept_server(folder, runner, converter_config={"a": 2}):
        await turns(5)
        request = runner.requests[task]
        assert request.spec.converter_config == {"a": 2}
        assert request.folder.read_job() == request.spec, "which is what a worker reads"


@pytest.mark.parametrize(("delay_s", "stays"), [(0.0, False), (3600.0, True)])
async def test_a_result_that_was_read_goes_when_it_would_have(
    tmp_path: Path, delay_s: float, stays: bool
) -> None:
    folder, (done, *_) = await killed_with_three_tasks(tmp_path / "scratch")
    async with kept_server(folder, HandRunner(), result_removal_delay_s=3600.0) as engine:
        await engine.on_result_fetched(done)
        await engine._journal.tasks()
        folder = image(folder)
    async with kept_server(folder, HandRunner(), result_removal_delay_s=delay_s) as engine:
        if stays:
            await turns(20)
            assert (await engine.view(done)).status is TaskStatus.SUCCESS
        else:
            await until(lambda: done not in left_in(folder / "tasks"))
            assert done not in engine._records


@pytest.mark.parametrize("seed", range(6))
async def test_each_task_ends_once_wherever_the_server_is_killed(tmp_path: Path, seed: int) -> None:
    """Submissions, ends and kills in any order; then everything is let run to its end."""
    chance = random.Random(seed)
    folder = tmp_path / "scratch"
    accepted: list[str] = []
    ended: dict[str, TaskView] = {}
    for _ in range(6):
        runner = HandRunner()
        async with kept_server(folder, runner, max_attempts=100) as engine:
            for _ in range(chance.randrange(6)):
                if chance.random() < 0.6:
                    accepted.append((await engine.submit(submission())).task_id)
                elif runner.started and runner.started[-1] not in ended:
                    task = runner.started[-1]
                    runner.end(task)
                    ended[task] = await finished(engine, task)
                await turns(chance.randrange(8))
            folder = image(folder)
            assert_sound(folder)
    runner = HandRunner()
    async with kept_server(folder, runner, max_attempts=100) as engine:
        left = [task for task in accepted if task not in ended]
        for task in left:
            runner.end(task)
        for task in accepted:
            assert (await finished(engine, task)).status is TaskStatus.SUCCESS
            reply = await engine.reply(task)
            assert reply is not None
            assert reply.path is not None
            assert reply.path.read_bytes() == REPLY
        assert runner.started == left, "what had ended is not run again, and order is kept"
        listed = await engine.list_tasks(DEFAULT_TENANT, limit=1000)
        assert sorted(view.task_id for view in listed) == sorted(accepted)


# ---- by the book ---------------------------------------------------------------------------------


async def test_what_waits_is_left_for_the_next_server(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    runner = HandRunner()
    async with kept_server(folder, runner, hand_over=2) as engine:
        tasks = await submit(engine, 4)
        engine.drain()
        runner.end(tasks[0])
        assert (await finished(engine, tasks[0])).status is TaskStatus.SUCCESS
        assert (await engine.view(tasks[3])).status is TaskStatus.PENDING
    runner = HandRunner()
    async with kept_server(folder, runner) as engine:
        for task in tasks[1:]:
            runner.end(task)
            assert (await finished(engine, task)).status is TaskStatus.SUCCESS
        assert runner.started == tasks[1:]


async def test_a_task_that_outlasts_the_end_is_tried_again_and_has_lost_no_attempt(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "scratch"
    task = ""
    for _ in range(5):
        async with kept_server(folder, HandRunner(), max_attempts=1) as engine:
            task = task or (await submit(engine, 1))[0]
            await started(engine, task)
    runner = HandRunner()
    async with kept_server(folder, runner, max_attempts=1) as engine:
        runner.end(task)
        assert (await finished(engine, task)).status is TaskStatus.SUCCESS


@pytest.mark.parametrize("error", [TaskFailed(WORKER_LOST), ShuttingDown("the pool is closed")])
async def test_a_runner_that_ends_with_the_server_fails_no_task(
    tmp_path: Path, error: Exception
) -> None:
    """Service managers send SIGTERM to workers, too."""
    folder = tmp_path / "scratch"
    runner = HandRunner()
    async with kept_server(folder, runner) as engine:
        (task,) = await submit(engine, 1)
        engine.drain()
        runner.end(task, error)
        await engine.finish_running(5)
        assert (await engine.view(task)).failure is None
    async with kept_server(folder, HandRunner()) as engine:
        await started(engine, task)


async def test_a_client_that_waits_learns_that_the_task_continues(tmp_path: Path) -> None:
    async with kept_server(tmp_path / "scratch", HandRunner()) as engine:
        _, task = await submit(engine, 2)
        waiting = asyncio.create_task(engine.wait_finished(task, DEFAULT_TENANT, 60))
        async with engine.watch(task) as watch:
            await turns(3)
            engine.drain()
            assert [view.status async for view in watch] == [TaskStatus.PENDING]
        with pytest.raises(ShuttingDown, match="the task continues after the restart"):
            await waiting


async def test_a_client_on_its_connection_is_told_that_the_task_is_gone(tmp_path: Path) -> None:
    async with kept_server(tmp_path / "scratch", HandRunner()) as engine:
        (_,) = await submit(engine, 1)
        view = await engine.submit(submission(attached=True))
        engine.drain()
        assert (await finished(engine, view.task_id)).failure == SHUT_DOWN


async def test_a_task_that_failed_by_itself_meanwhile_has_failed(tmp_path: Path) -> None:
    cause = Failure("backend_failure", "It is broken.")
    runner = HandRunner()
    async with kept_server(tmp_path / "scratch", runner) as engine:
        (task,) = await submit(engine, 1)
        engine.drain()
        runner.end(task, TaskFailed(cause))
        assert (await finished(engine, task)).failure == cause


async def test_a_task_can_be_deleted_while_the_server_ends(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    async with kept_server(folder, HandRunner()) as engine:
        _, task = await submit(engine, 2)
        engine.drain()
        await engine.delete(task, DEFAULT_TENANT)
    async with kept_server(folder, HandRunner()) as engine:
        with pytest.raises(TaskNotFoundError):
            await engine.view(task)


async def test_without_a_kept_folder_nothing_is_left(tmp_path: Path) -> None:
    options: dict[str, Any] = {"keep": False}
    runner = HandRunner()
    async with kept_server(tmp_path / "scratch", runner, **options) as engine:
        done, _, _ = await submit(engine, 3)
        runner.end(done)
        await finished(engine, done)

    assert left_in(tmp_path / "scratch" / "tasks") == []
