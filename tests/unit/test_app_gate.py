"""The gate every task passes, and what is done around it in either mode."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, cast

import pytest
from docling_jobkit.datamodel.task import Task

from docling_serve.app import (
    cleanup_models_if_needed,
    clear_models,
    create_app,
    ensure_models_loaded,
    process_task_with_vram_management,
    unload_external_models,
)
from docling_serve.errors import Failure, TaskFailed, TaskNotTransferable, TaskTimedOut
from docling_serve.jobs import JobProgress, JobResult, TaskFolder
from docling_serve.runtime import Runtime
from docling_serve.settings import DoclingServeSettings
from docling_serve.subprocess_worker import SubprocessWorkerPool
from tests.helpers.loops import run
from tests.unit.subprocess_worker.conftest import (  # noqa: F401 - fixtures
    fork_server,
    nothing_is_left,
)
from tests.unit.subprocess_worker.pools import open_pool
from tests.unit.vram.stand_in_neighbours import StandInNeighbour, stand_in_ollama

TASK = Task(task_id="task-1")
RESULT = JobResult(body="result.body", media_type="text/plain", processing_time=0.1)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("DOCLING_SERVE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


class Host:
    """An engine with one task, as far as the gate asks; writes down what it is told."""

    def __init__(
        self, folder: Path, *, waiting: int = 0, name: str = "a.md", **options: Any
    ) -> None:
        self.waiting = waiting
        self.told: list[Any] = []
        self._folder = TaskFolder(folder)
        self._task = {
            "task_id": TASK.task_id,
            "sources": [{"kind": "file", "path": "input/0", "filename": name}],
            "options": options,
        }

    def folder(self, task: Task) -> TaskFolder:
        assert task is TASK
        return self._folder

    def task_dict(self, task: Task) -> dict[str, Any]:
        assert task is TASK
        return self._task

    def mark_started(self, task: Task) -> None:
        assert task is TASK
        self.told.append("started")

    def report_progress(self, task: Task, progress: JobProgress) -> None:
        assert task is TASK
        self.told.append(progress)

    def relay_callback(self, task: Task, payload: dict[str, Any]) -> None:
        assert task is TASK
        self.told.append(payload)


class HandConverters:
    """Conversion in this process, written down instead of done."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[str] = []
        self._error = error

    async def run(
        self, spec: Any, folder: Any, on_started: Any, on_progress: Any, on_callback: Any
    ) -> JobResult:
        del spec, folder
        self.calls.append("run")
        on_started()
        on_progress(JobProgress(phase="build"))
        on_callback({"kind": "set_num_docs"})
        if self._error is not None:
            raise self._error
        return RESULT

    async def warm_up(self) -> None:
        self.calls.append("warm up")

    async def clear(self) -> None:
        self.calls.append("clear")


class HandRuntime(Runtime):
    """A runtime whose pool and converters are the test's."""

    def __init__(
        self,
        *,
        pool: SubprocessWorkerPool | None = None,
        converters: HandConverters | None = None,
        **values: Any,
    ) -> None:
        settings = DoclingServeSettings(use_subprocess_for_ocr=pool is not None, **values)
        super().__init__(settings, pool is not None, "the test says so")
        self.hand = converters or HandConverters()
        self.converters = cast(Any, self.hand)
        self._pool = pool

    @property
    def pool(self) -> SubprocessWorkerPool:
        assert self._pool is not None, "there is no pool with the mode off"
        return self._pool


async def gate(host: Host, runtime: Runtime) -> JobResult:
    return await process_task_with_vram_management(cast(Any, host), TASK, runtime=runtime)


# ---- the mode is on ------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_is_left")
def test_with_the_mode_on_a_worker_runs_the_task(tmp_path: Path) -> None:
    async def work() -> None:
        host = Host(tmp_path, progress=1)
        async with open_pool() as pool:
            runtime = HandRuntime(pool=pool)
            result = await gate(host, runtime)

            assert host.folder(TASK).result_file(result).exists()
            assert host.told[0] == "started"
            assert set(host.told[1]) == {"pid"}
            assert isinstance(host.told[2], JobProgress)
            assert runtime.hand.calls == []

    run(work())


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize(
    ("options", "kind", "category"),
    [
        ({"do": "fail"}, TaskFailed, "policy"),
        ({"do": "segfault"}, TaskFailed, "backend_failure"),
        ({"do": "hang"}, TaskTimedOut, "timeout"),
    ],
)
def test_with_the_mode_on_a_failure_is_raised(
    tmp_path: Path, options: dict[str, Any], kind: type[TaskFailed], category: str
) -> None:
    async def work() -> None:
        async with open_pool(retries=0) as pool:
            runtime = HandRuntime(pool=pool, subprocess_timeout=0.5)
            with pytest.raises(kind) as failed:
                await gate(Host(tmp_path, **options), runtime)

            assert failed.value.failure.category == category
            assert runtime.hand.calls == []

    run(work())


@pytest.mark.usefixtures("nothing_is_left")
def test_with_the_mode_on_nothing_is_warmed_up_or_cleaned_up_here(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_pool() as pool:
            runtime = HandRuntime(pool=pool, free_vram_on_idle=True)
            await ensure_models_loaded(runtime)
            await cleanup_models_if_needed(runtime, idle=True)
            await clear_models(runtime)

            assert runtime.hand.calls == []
            assert pool.workers() == []

    run(work())


def test_with_the_mode_on_weights_are_read_into_the_page_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"w" * 5000)

    async def work() -> None:
        async with open_pool() as pool:
            await ensure_models_loaded(HandRuntime(pool=pool, artifacts_path=tmp_path))

    with caplog.at_level("INFO", logger="docling_serve.shared_weights"):
        run(work())

    assert "1 weight files" in caplog.text


# ---- the mode is off -----------------------------------------------------------------------------


def test_with_the_mode_off_the_task_runs_here(tmp_path: Path) -> None:
    host, runtime = Host(tmp_path), HandRuntime()

    assert run(gate(host, runtime)) == RESULT
    assert runtime.hand.calls == ["run"]
    assert host.told == ["started", JobProgress(phase="build"), {"kind": "set_num_docs"}]


@pytest.mark.parametrize(
    ("frees", "waiting", "cleared"), [(True, 0, True), (True, 1, False), (False, 0, False)]
)
@pytest.mark.parametrize("fails", [True, False])
def test_models_are_cleared_when_nothing_waits_and_it_was_asked_for(
    tmp_path: Path, frees: bool, waiting: int, cleared: bool, fails: bool
) -> None:
    error = TaskFailed(Failure("policy", "No.")) if fails else None
    runtime = HandRuntime(converters=HandConverters(error), free_vram_on_idle=frees)

    async def work() -> None:
        passing = gate(Host(tmp_path, waiting=waiting), runtime)
        if fails:
            with pytest.raises(TaskFailed, match="No"):
                await passing
        else:
            await passing

    run(work())
    assert runtime.hand.calls == ["run", *(["clear"] if cleared else [])]


def test_with_the_mode_off_models_are_loaded_and_dropped_here() -> None:
    async def work() -> None:
        runtime = HandRuntime()
        await ensure_models_loaded(runtime)
        await clear_models(runtime)
        assert runtime.hand.calls == ["warm up", "clear"]

    run(work())


def test_a_task_that_is_no_plain_data_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TaskNotTransferable) as refusal:
        run(gate(Host(tmp_path, stream=object()), HandRuntime()))

    assert refusal.value.field == "options.stream"


# ---- neighbours ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "asked"), [("scan.pdf", True), ("notes.md", False)])
def test_a_neighbour_is_asked_to_unload_before_models_are_loaded(
    tmp_path: Path, name: str, asked: bool
) -> None:
    with stand_in_ollama(StandInNeighbour(["llama"])) as ollama:
        runtime = HandRuntime(unload_ollama_base_url=ollama.url)
        run(gate(Host(tmp_path, name=name), runtime))

        assert ollama.models == ([] if asked else ["llama"])
    assert runtime.hand.calls == ["run"]


def test_a_neighbour_that_is_not_there_keeps_no_task_from_running(tmp_path: Path) -> None:
    async def work() -> None:
        runtime = HandRuntime(
            unload_ollama_base_url="http://127.0.0.1:1", unload_external_model_timeout=1
        )
        await unload_external_models(runtime)
        assert await gate(Host(tmp_path, name="scan.pdf"), runtime) == RESULT

    run(work())


# ---- the app -------------------------------------------------------------------------------------


def test_an_engine_that_cannot_be_reached_is_refused() -> None:
    nobody = "redis://127.0.0.1:1"
    settings = DoclingServeSettings(eng_kind="rq", eng_rq_redis_url=nobody)
    with pytest.raises(ConnectionError, match="DOCLING_SERVE_ENG_RQ_REDIS_URL"):
        create_app(settings)


def test_cancelling_a_task_cancels_what_runs_it(tmp_path: Path) -> None:
    async def work() -> None:
        entered = asyncio.Event()

        class Waiting(HandConverters):
            async def run(self, *_: Any, **__: Any) -> JobResult:
                entered.set()
                await asyncio.Event().wait()
                raise AssertionError

        runtime = HandRuntime(converters=Waiting(), free_vram_on_idle=True)
        running = asyncio.create_task(gate(Host(tmp_path), runtime))
        await entered.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert runtime.hand.calls == ["clear"]

    run(work())
