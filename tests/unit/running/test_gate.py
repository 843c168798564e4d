"""The gate every task passes, and what is done around it in either mode."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from docling_serve.app import create_app
from docling_serve.errors import Failure, TaskFailed, TaskTimedOut
from docling_serve.jobs.run_request import Listeners, RunRequest
from docling_serve.jobs.spec import (
    JobProgress,
    JobResult,
    JobSpec,
    OnnxUse,
    StagedFile,
    TaskFolder,
)
from docling_serve.running import gate as gate_module
from docling_serve.running.gate import (
    clear_models,
    load_models,
    run_request,
    unload_external_models,
)
from docling_serve.running.runtime import Runtime
from docling_serve.running.threads import InProcessConverters
from docling_serve.settings import DoclingServeSettings
from docling_serve.subprocess_worker import PoolRunner, SubprocessWorkerPool
from tests.helpers.pools import open_pool
from tests.helpers.stand_in_neighbours import StandInNeighbour, stand_in_ollama

RESULT = JobResult(body="result.body", media_type="text/plain", processing_time=0.1)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("DOCLING_SERVE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


class Heard:
    """A task to run, and what its engine is told of it."""

    def __init__(
        self, folder: Path, *, waiting: int = 0, name: str = "a.md", **options: Any
    ) -> None:
        self.told: list[Any] = []
        source = StagedFile(path="input/0", filename=name)
        self.request = RunRequest(
            JobSpec(task_id="task-1", sources=[source], options=options),
            TaskFolder(folder),
            light=name.endswith(".md"),
            listeners=Listeners(
                lambda: self.told.append("started"), self.told.append, self.told.append
            ),
            waiting=lambda: waiting,
        )
        self.request.folder.write_job(self.request.spec)


class HandConverters(InProcessConverters):
    """Conversion in this process, written down instead of done."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__({}, 1, share_models=False)
        self.calls: list[str] = []
        self.result = RESULT
        self._error = error

    async def run(self, request: RunRequest) -> JobResult:
        self.calls.append("run")
        request.listeners.on_started()
        request.listeners.on_progress(JobProgress(phase="build"))
        request.listeners.on_callback({"kind": "set_num_docs"})
        if self._error is not None:
            raise self._error
        return self.result

    async def warm_up(self) -> None:
        self.calls.append("warm up")

    async def clear(self) -> None:
        self.calls.append("clear")


def runtime_of(runner: SubprocessWorkerPool | HandConverters, **values: Any) -> Runtime:
    """A runtime whose pool or converters are the test's."""
    pooled = isinstance(runner, SubprocessWorkerPool)
    settings = DoclingServeSettings(use_subprocess_for_ocr=pooled, **values)
    return replace(
        Runtime.decide(settings),
        runner=PoolRunner(runner, settings.subprocess_timeout) if pooled else runner,
    )


async def gate(task: Heard, runtime: Runtime) -> JobResult:
    return await run_request(task.request, runtime)


# ---- the mode is on ------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_is_left")
async def test_with_the_mode_on_a_worker_runs_the_task(tmp_path: Path) -> None:
    task = Heard(tmp_path, progress=1)
    async with open_pool() as pool:
        result = await gate(task, runtime_of(pool))

        assert task.request.folder.result_file(result).exists()
        assert task.told[0] == "started"
        assert set(task.told[1]) == {"pid"}
        assert isinstance(task.told[2], JobProgress)


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize(
    ("do", "limit_s", "kind", "category"),
    [
        ("fail", 60, TaskFailed, "policy"),
        ("segfault", 60, TaskFailed, "backend_failure"),
        ("hang", 0.5, TaskTimedOut, "timeout"),
    ],
)
async def test_with_the_mode_on_a_failure_is_raised(
    tmp_path: Path, do: str, limit_s: float, kind: type[TaskFailed], category: str
) -> None:
    async with open_pool(retries=0) as pool:
        runtime = runtime_of(pool, subprocess_timeout=limit_s)
        with pytest.raises(kind) as failed:
            await gate(Heard(tmp_path, do=do), runtime)

        assert failed.value.failure.category == category


@pytest.mark.usefixtures("nothing_is_left")
async def test_with_the_mode_on_nothing_is_warmed_up_or_cleaned_up_here(tmp_path: Path) -> None:
    async with open_pool() as pool:
        runtime = runtime_of(pool, free_vram_on_idle=True)
        await load_models(runtime)
        await clear_models(runtime, idle=True)
        await runtime.runner.clear()

        assert pool.workers() == []


async def test_with_the_mode_on_weights_are_read_into_the_page_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"w" * 5000)

    with caplog.at_level("INFO", logger="docling_serve.process.shared_weights"):
        async with open_pool() as pool:
            await load_models(runtime_of(pool, artifacts_path=tmp_path))

    assert "1 weight files" in caplog.text


# ---- the mode is off -----------------------------------------------------------------------------


async def test_with_the_mode_off_the_task_runs_here(tmp_path: Path) -> None:
    task, converters = Heard(tmp_path), HandConverters()

    assert await gate(task, runtime_of(converters)) == RESULT
    assert converters.calls == ["run"]
    assert task.told == ["started", JobProgress(phase="build"), {"kind": "set_num_docs"}]


async def test_onnx_runtime_on_another_provider_than_asked_for_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate_module._warn_once.cache_clear()
    converters = HandConverters()
    use = OnnxUse(asked="CUDA", used="CPU", why="libcurand.so.10: cannot open")
    converters.result = RESULT.model_copy(update={"onnx": use})

    for number in range(2):
        (tmp_path / str(number)).mkdir()
        await gate(Heard(tmp_path / str(number)), runtime_of(converters))

    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert warnings == [
        "ONNX Runtime was asked to run on CUDA and runs on CPU: libcurand.so.10: cannot open"
    ]


@pytest.mark.parametrize(
    ("frees", "waiting", "cleared"), [(True, 0, True), (True, 1, False), (False, 0, False)]
)
@pytest.mark.parametrize("fails", [True, False])
async def test_models_are_cleared_when_nothing_waits_and_it_was_asked_for(
    tmp_path: Path, frees: bool, waiting: int, cleared: bool, fails: bool
) -> None:
    error = TaskFailed(Failure("policy", "No.")) if fails else None
    converters = HandConverters(error)
    runtime = runtime_of(converters, free_vram_on_idle=frees)

    passing = gate(Heard(tmp_path, waiting=waiting), runtime)
    if fails:
        with pytest.raises(TaskFailed, match="No"):
            await passing
    else:
        await passing
    assert converters.calls == ["run", *(["clear"] if cleared else [])]


async def test_with_the_mode_off_models_are_loaded_and_dropped_here() -> None:
    converters = HandConverters()
    await load_models(runtime_of(converters))
    assert converters.calls == ["warm up"]


# ---- either --------------------------------------------------------------------------------------


async def test_a_failure_says_where_the_task_was(tmp_path: Path) -> None:
    converters = HandConverters(TaskFailed(Failure("timeout", "Too slow.")))
    with pytest.raises(TaskFailed) as failed:
        await gate(Heard(tmp_path), runtime_of(converters))

    details = failed.value.failure.details
    assert details == {"document": "a.md", "document_number": "1", "doing": "build"}


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("told", [True, False])
async def test_what_a_worker_printed_is_told_where_details_are(tmp_path: Path, told: bool) -> None:
    async with open_pool(retries=0) as pool:
        runner = PoolRunner(pool, 20, tells_log=told)
        with pytest.raises(TaskFailed) as failed:
            await runner.run(Heard(tmp_path, do="segfault", say="last words").request)

        assert ("worker_log" in failed.value.failure.details) is told


# ---- neighbours ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "asked"), [("scan.pdf", True), ("notes.md", False)])
async def test_a_neighbour_is_asked_to_unload_before_models_are_loaded(
    tmp_path: Path, name: str, asked: bool
) -> None:
    with stand_in_ollama(StandInNeighbour(["llama"])) as ollama:
        converters = HandConverters()
        runtime = runtime_of(converters, unload_ollama_base_url=ollama.url)
        await gate(Heard(tmp_path, name=name), runtime)

        assert ollama.models == ([] if asked else ["llama"])
    assert converters.calls == ["run"]


async def test_a_neighbour_that_is_not_there_keeps_no_task_from_running(tmp_path: Path) -> None:
    runtime = runtime_of(
        HandConverters(),
        unload_ollama_base_url="http://127.0.0.1:1",
        unload_external_model_timeout=1,
    )
    await unload_external_models(runtime)
    assert await gate(Heard(tmp_path, name="scan.pdf"), runtime) == RESULT


# ---- the app -------------------------------------------------------------------------------------


def test_an_engine_that_cannot_be_reached_is_refused() -> None:
    nobody = "redis://127.0.0.1:1"
    settings = DoclingServeSettings(eng_kind="rq", eng_rq_redis_url=nobody)
    with pytest.raises(ConnectionError, match="DOCLING_SERVE_ENG_RQ_REDIS_URL"):
        create_app(settings)


async def test_cancelling_a_task_cancels_what_runs_it(tmp_path: Path) -> None:
    entered = asyncio.Event()

    class Waiting(HandConverters):
        async def run(self, request: RunRequest) -> JobResult:
            del request
            entered.set()
            await asyncio.Event().wait()
            raise AssertionError

    converters = Waiting()
    runtime = runtime_of(converters, free_vram_on_idle=True)
    running = asyncio.create_task(gate(Heard(tmp_path), runtime))
    await entered.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert converters.calls == ["clear"]
