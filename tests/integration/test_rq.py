"""The rq engine as users run it: gateways and workers in processes of their own, a real Redis.

The shared worker keeps its conversion process, so that a test pays for a conversion only.
"""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest

from docling_serve.engines.rq.engine import RqEngine
from docling_serve.errors import CANCELLED
from docling_serve.internals import jobkit_rq
from tests.conftest import KEEP_WORKERS, StartServer
from tests.helpers.api import SLIP, document, missing_phrases, upload
from tests.helpers.documents import scanned_pdf
from tests.helpers.eventually import eventually
from tests.helpers.redis_server import RedisServer
from tests.helpers.rq_engines import (
    TENANT,
    gateway,
    markdown,
    until,
    uploaded,
)
from tests.helpers.rq_worker import RunningRqWorker
from tests.helpers.server import (
    IN_PROCESS_MODE,
    NOTHING_KEPT,
    ORPHAN_LIMIT_S,
    STOP_LIMIT_S,
    SUBPROCESS_MODE,
    RunningServer,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

_HEAVY = ("libtorch", "onnxruntime", "libcuda", "libcudart")
_FINISHES_S = 120.0

StartWorker = Callable[..., RunningRqWorker]


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def env(redis_server: RedisServer) -> dict[str, str]:
    return (
        SUBPROCESS_MODE
        | NOTHING_KEPT
        | {
            "DOCLING_SERVE_ENG_KIND": "rq",
            "DOCLING_SERVE_ENG_RQ_REDIS_URL": redis_server.url,
            "DOCLING_SERVE_SUBPROCESS_RETRIES": "0",
        }
    )


@pytest.fixture(scope="module")
def here(serve: StartServer, env: dict[str, str]) -> Iterator[RunningServer]:
    """A gateway."""
    with serve(env) as running:
        yield running


@pytest.fixture(scope="module")
def there(serve: StartServer, env: dict[str, str]) -> Iterator[RunningServer]:
    """Another one."""
    with serve(env) as running:
        yield running


@pytest.fixture(scope="module")
def worker(
    server_folder: Callable[[], Path], known_servers: list[RunningServer], env: dict[str, str]
) -> Iterator[RunningRqWorker]:
    """The worker of both gateways."""
    running = RunningRqWorker(server_folder(), env | KEEP_WORKERS)
    known_servers.append(running)
    with running:
        yield running


@pytest.fixture
def start_worker(
    server_folder: Callable[[], Path],
    known_servers: list[RunningServer],
    leak_check: list[RunningServer],
    env: dict[str, str],
) -> Iterator[StartWorker]:
    """Starts a worker for one test, on a queue that is not the gateways'."""
    started: list[RunningRqWorker] = []

    def start(queue: str, **changes: str) -> RunningRqWorker:
        settings = env | {"DOCLING_SERVE_ENG_RQ_QUEUE_NAME": queue} | changes
        running = RunningRqWorker(server_folder(), settings)
        known_servers.append(running)
        leak_check.append(running)
        started.append(running)
        running.start()
        return running

    yield start
    for running in started:
        if running.running:
            running.stop()


def text_of(server: RunningServer, task_id: str) -> str:
    """The Markdown of a task that must succeed."""
    return str(server.api.succeed(task_id)["document"]["md_content"])


@cache
def long_pdf() -> bytes:
    """About 40 s of work on an idle machine."""
    return scanned_pdf(pages=40)


# ---- gateways and workers ---------------------------------------------------------------------


def test_what_one_gateway_accepts_another_answers(
    here: RunningServer, there: RunningServer, worker: RunningRqWorker
) -> None:
    scan, notes = (here.api.submit(upload(name)) for name in (SLIP, "notes.md"))

    assert missing_phrases(SLIP, text_of(there, scan)) == []
    assert missing_phrases("notes.md", text_of(there, notes)) == []
    assert text_of(here, notes) == text_of(there, notes)
    assert here.log().count(f"task {notes}: accepted") == 1
    ended = f"task {notes}: success after "
    eventually(lambda: worker.log().count(ended) == 1, within_s=STOP_LIMIT_S, what="it is logged")
    assert here.api.poll(scan)["task_meta"]["num_succeeded"] == 1

    metrics = there.api.get("/metrics").text
    assert 'rq_jobs{queue="convert",status="queued"} 0.0' in metrics
    assert "rq_workers_success_total{" in metrics
    for process in (here, there, worker):
        assert not any(name in process.maps() for name in _HEAVY)
    assert here.workers() == [], "a gateway converts nothing"


def test_synchronous_requests(here: RunningServer, worker: RunningRqWorker) -> None:
    reply = here.api.convert(upload("notes.md"))
    assert reply.status_code == 200, reply.text
    assert missing_phrases("notes.md", reply.json()["document"]["md_content"]) == []

    zipped = here.api.convert(upload("notes.md"), upload("page.html"), form={"target_type": "zip"})
    assert zipped.headers["content-type"] == "application/zip"
    assert zipped.headers["content-disposition"] == 'attachment; filename="converted_docs.zip"'
    with zipfile.ZipFile(io.BytesIO(zipped.content)) as archive:
        assert sorted(archive.namelist()) == ["notes.md", "page.md"]

    chunks = here.api.http.post("/v1/chunk/hierarchical/file", files=[upload("notes.md")])
    assert chunks.status_code == 200, chunks.text
    assert chunks.json()["chunks"]


def test_a_failure_is_told_whole_by_every_gateway(
    here: RunningServer, there: RunningServer, worker: RunningRqWorker
) -> None:
    bad = upload("bad.pdf", b"%PDF-1.7 nothing")
    task = here.api.submit(bad, form={"abort_on_error": "true"})
    told = [here.api.finish(task), there.api.finish(task)]
    for each in told:  # until its end is recorded, a task's times are those of RQ's job
        del each["waited_s"], each["converted_s"]
    assert told[0] == told[1]
    assert told[0]["task_status"] == "failure"
    assert told[0]["failure"]["category"] == "backend_failure"
    assert there.api.result(task).json()["kind"] == "TaskFailureResult"


def test_a_fetched_result_is_forgotten(
    redis_server: RedisServer, here: RunningServer, worker: RunningRqWorker
) -> None:
    task = here.api.submit(upload("notes.md"))
    here.api.succeed(task)
    with redis_server.client() as client:
        eventually(
            lambda: not client.exists(f"rq:job:{task}"), within_s=30, what="the document is gone"
        )
        assert 0 < client.ttl(jobkit_rq.metadata_key(task)) <= 300


# ---- a worker ----------------------------------------------------------------------


async def test_one_process_runs_several_tasks_and_light_ones_beside_them(
    redis_server: RedisServer, start_worker: StartWorker
) -> None:
    async with gateway(redis_server.url, eng_rq_queue_name="many") as engine:
        long = [(await engine.submit(uploaded("long.pdf", long_pdf()))).task_id for _ in range(2)]
        worker = await asyncio.to_thread(start_worker, "many", DOCLING_SERVE_ENG_RQ_WORKERS="2")
        pids = {await asyncio.to_thread(worker.wait_for, task) for task in long}
        assert len(pids) == 2

        small = (await engine.submit(markdown())).task_id
        assert (await engine.wait_finished(small, TENANT, _FINISHES_S)).status == "success"
        assert [(await engine.view(task)).status for task in long] == ["started", "started"]

        await until(lambda: _listed(engine, set(long)))
        capacity = await engine.capacity(TENANT)
        assert capacity is not None
        assert (capacity.heavy.workers, capacity.heavy.running, capacity.room) == (2, 2, None)
        assert {worker["pid"] for worker in engine.describe_workers()["workers"]} >= pids

        stopped, kept = long
        view = await engine.cancel(stopped, TENANT, CANCELLED)
        assert view.failure == CANCELLED
        assert (await engine.view(kept)).status == "started", "the other one goes on"
        assert (await engine.cancel(kept, TENANT, CANCELLED)).failure == CANCELLED


async def _listed(engine: RqEngine, tasks: set[str]) -> bool:
    """Whether the gateway knows of workers that have these tasks."""
    return tasks <= {worker["task_id"] for worker in engine.describe_workers()["workers"]}


async def test_a_worker_gives_memory_back(
    redis_server: RedisServer, start_worker: StartWorker
) -> None:
    scan = document(SLIP)

    async with gateway(redis_server.url, eng_rq_queue_name="idle") as engine:
        worker = await asyncio.to_thread(start_worker, "idle")
        tasks = [(await engine.submit(uploaded(SLIP, scan))).task_id for _ in range(3)]
        for task in tasks:
            assert (await engine.wait_finished(task, TENANT, _FINISHES_S)).status == "success"
        pids = {handed.pid for handed in worker.all_handed_over()}
        assert len(pids) == 1, "one conversion process did them all"
        gone = partial(eventually, lambda: not worker.workers(), within_s=ORPHAN_LIMIT_S)
        await asyncio.to_thread(gone)


async def test_without_the_mode_a_worker_converts_itself(
    redis_server: RedisServer, start_worker: StartWorker
) -> None:
    async with gateway(redis_server.url, eng_rq_queue_name="inside") as engine:
        boot = {"DOCLING_SERVE_LOAD_MODELS_AT_BOOT": "false"}
        worker = await asyncio.to_thread(partial(start_worker, "inside", **IN_PROCESS_MODE, **boot))
        task = (await engine.submit(uploaded(SLIP, document(SLIP)))).task_id
        assert (await engine.wait_finished(task, TENANT, _FINISHES_S)).status == "success"
        reply = await engine.reply(task)
        assert reply is not None
        assert missing_phrases(SLIP, reply.content.decode()) == []
        assert worker.workers() == []
        assert "libtorch" in worker.maps()


# ---- the start --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["run", "--port", "0"], ["rq-worker"]])
def test_without_redis_nothing_starts(tmp_path: Path, command: list[str]) -> None:
    settings = {
        "DOCLING_SERVE_ENG_KIND": "rq",
        "DOCLING_SERVE_ENG_RQ_REDIS_URL": "redis://:secret@127.0.0.1:1/",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "docling_serve", *command],
        env={"PATH": "/usr/bin:/bin", **settings},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1  # upstream M105
    assert "Redis at 127.0.0.1:1 cannot be reached" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "secret" not in ended.stderr + ended.stdout
