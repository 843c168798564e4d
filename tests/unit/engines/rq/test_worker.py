"""The worker's side on a real Redis; a function of the test stands where the gate is."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from rq import Queue
from rq.job import Job
from rq.timeouts import JobTimeoutException

from docling_serve.callbacks.delivery import CallbackDelivery
from docling_serve.engines.redis.lines import Again, Lines
from docling_serve.engines.redis.task_runner import (
    GIVEN_AWAY,
    Liveness,
    TaskRunner,
    TaskSetup,
    stage_job,
)
from docling_serve.engines.rq.job_taker import JobTaker
from docling_serve.engines.rq.task_records import RqTaskRecords
from docling_serve.errors import CANCELLED, SHUT_DOWN, Failure, TaskFailed
from docling_serve.internals import jobkit_rq
from docling_serve.jobs.run_request import Gate, RunRequest
from docling_serve.jobs.spec import (
    ConnectorSource,
    JobProgress,
    JobResult,
    JobSpec,
    RemoteUrl,
    TaskFolder,
)
from tests.helpers.loops import PATIENCE_S
from tests.helpers.redis_server import RedisServer
from tests.helpers.rq_engines import gateway, markdown, rq_settings, until
from tests.unit.engines.rq.worker_bench import (
    FAILURE,
    RESULT,
    bench,
    breaks,
    converts,
    fails,
    hangs,
    has_no_room,
    task_data,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


# ---- a task --------------------------------------------------------------------------------------


async def test_a_result_is_stored_unread_and_told(redis_url: str, tmp_path: Path) -> None:
    async with bench(redis_url, tmp_path, converts) as at:
        key = await at.runner.run("t", task_data())
        assert key == "docling:results:t"
        assert await at.redis.get(key) == b"packed"
        assert 0 < await at.redis.ttl(key) <= at.config.results_ttl
        counts = await at.redis.hget(jobkit_rq.detail_key("t"), jobkit_rq.RESULT)
        assert JobResult.model_validate_json(counts) == RESULT
        assert await at.statuses(2) == ["started", "success"]


async def test_the_gate_gets_documents_as_files_and_the_rest_as_data(
    redis_url: str, tmp_path: Path
) -> None:
    seen: list[JobSpec] = []

    async def look(request: RunRequest) -> JobResult:
        spec, folder = request.spec, request.folder
        path = folder.root / spec.sources[0].path  # type: ignore[union-attr]
        assert path.read_bytes() == b"# T"
        assert folder.read_job() == spec
        assert request.light
        seen.append(spec)
        return await converts(request)

    async with bench(redis_url, tmp_path, look) as at:
        await at.runner.run("t", task_data(target_document_version="1.8.0"))
    (spec,) = seen
    assert spec.output == "task_result"
    assert spec.options == {"to_formats": ["md"]}
    assert spec.target_document_version == "1.8.0"


@pytest.mark.parametrize(
    ("gate", "category", "message"),
    [
        (fails, "timeout", "too slow"),
        (breaks, "internal", "The worker failed to run the task (LookupError)."),
        (has_no_room, "capacity", "The server's scratch disk is full."),
    ],
)
async def test_a_failure_is_stored_and_told_whole(
    redis_url: str, tmp_path: Path, gate: Gate, category: str, message: str
) -> None:
    async with bench(redis_url, tmp_path, gate) as at:
        with pytest.raises(TaskFailed):
            await at.runner.run("t", task_data())
        failure = await at.failure()
        assert (failure.category, failure.message) == (category, message)
        await at.messages.next()
        told = await at.messages.next()
        assert (told.task_status, told.failure) == ("failure", failure)
        assert told.error_message == message, "for gateways of another make"


async def test_the_callbacks_of_a_failed_task_hear_of_it(redis_url: str, tmp_path: Path) -> None:
    heard: list[tuple[str, str, dict[str, Any]]] = []

    class Delivery(CallbackDelivery):
        def send(self, task_id: str, callbacks: Any, progress: dict[str, Any]) -> None:
            heard.append((task_id, str(callbacks[0].url), progress))

    async with bench(redis_url, tmp_path, fails, delivery=Delivery()) as at:
        with pytest.raises(TaskFailed):
            await at.runner.run("t", task_data(callbacks=[{"url": "http://h/hook"}]))
    ((task_id, url, event),) = heard
    assert (task_id, url) == ("t", "http://h/hook")
    assert (event["kind"], event["task_status"]) == ("task_completed", "failure")
    assert event["failure"]["message"] == "too slow"


async def test_a_task_that_was_cancelled_before_is_not_begun(
    redis_url: str, tmp_path: Path
) -> None:
    async with bench(redis_url, tmp_path, breaks) as at:
        await at.redis.hset(
            jobkit_rq.detail_key("t"), jobkit_rq.FAILURE, jobkit_rq.dump_failure(FAILURE)
        )
        with pytest.raises(TaskFailed, match="too slow"):
            await at.runner.run("t", task_data())


async def test_stopping_ends_the_task_with_the_cause(redis_url: str, tmp_path: Path) -> None:
    async with bench(redis_url, tmp_path, hangs) as at:
        running = asyncio.ensure_future(at.runner.run("t", task_data()))
        assert await at.statuses(1) == ["started"]
        at.runner.stop(SHUT_DOWN, "another")
        at.runner.stop(CANCELLED, "t")
        at.runner.stop(SHUT_DOWN)
        with pytest.raises(TaskFailed):
            await running
        assert await at.failure() == CANCELLED
        at.runner.stop(SHUT_DOWN)
        assert await at.statuses(1) == ["failure"]


async def test_a_task_that_is_stopped_while_it_is_written_leaves_no_document(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    folder_was_there = []

    def stage_when_let(data: dict[str, Any], folder: TaskFolder, setup: TaskSetup) -> JobSpec:
        begun.set()
        go.wait(PATIENCE_S)
        folder_was_there.append(folder.root.exists())
        return stage_job(data, folder, setup)

    monkeypatch.setattr("docling_serve.engines.redis.task_runner.stage_job", stage_when_let)
    async with bench(redis_url, tmp_path, hangs) as at:
        running = asyncio.ensure_future(at.runner.run("t", task_data()))
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        at.runner.stop(CANCELLED)
        for _ in range(50):
            await at.redis.ping()  # long enough for a folder to be removed
        go.set()
        with pytest.raises(TaskFailed):
            await running
        assert await at.failure() == CANCELLED
    assert folder_was_there == [True]


async def test_the_worker_lets_go_of_a_task_that_others_have_ended(
    redis_url: str, tmp_path: Path
) -> None:
    quick = Liveness(beat_every_s=0.01, expires_s=7)
    async with bench(redis_url, tmp_path, hangs, quick) as at:
        running = asyncio.ensure_future(at.runner.run("t", task_data()))
        assert await at.statuses(1) == ["started"]
        await at.redis.hset(
            jobkit_rq.detail_key("t"), jobkit_rq.FAILURE, jobkit_rq.dump_failure(FAILURE)
        )
        with pytest.raises(TaskFailed, match="too slow"):
            await running


async def test_the_worker_lets_go_of_a_task_that_another_has(
    redis_url: str, tmp_path: Path
) -> None:
    quick = Liveness(beat_every_s=0.01, expires_s=7)
    async with bench(redis_url, tmp_path, hangs, quick) as at:
        running = asyncio.ensure_future(at.runner.run("t", task_data()))
        assert await at.statuses(1) == ["started"]
        await at.redis.hincrby(jobkit_rq.detail_key("t"), jobkit_rq.LOSSES, 1)
        with pytest.raises(TaskFailed) as caught:
            await running
        assert caught.value.failure is GIVEN_AWAY
        assert not await at.redis.hexists(jobkit_rq.detail_key("t"), jobkit_rq.FAILURE)
        running = asyncio.ensure_future(at.runner.run("t", task_data()))
        assert await at.statuses(1) == ["started"], "and no end was told of"
        at.runner.stop(CANCELLED)
        with pytest.raises(TaskFailed):
            await running


@pytest.mark.parametrize("stopped", [False, True], ids=["fails by itself", "is stopped"])
async def test_the_failure_of_a_task_that_another_has_is_not_reported(
    redis_url: str, tmp_path: Path, stopped: bool
) -> None:
    """The worker has not noticed yet that its task was given to another."""
    begun, cut_off = asyncio.Event(), asyncio.Event()

    async def fails_later(request: RunRequest) -> JobResult:
        begun.set()
        await cut_off.wait()
        return await fails(request)

    async with bench(redis_url, tmp_path, fails_later) as at:
        running = asyncio.ensure_future(at.runner.run("t", task_data()))
        await begun.wait()
        await at.redis.hincrby(jobkit_rq.detail_key("t"), jobkit_rq.LOSSES, 1)
        if stopped:
            at.runner.stop(SHUT_DOWN)
        cut_off.set()
        with pytest.raises(TaskFailed) as caught:
            await running
        assert caught.value.failure is GIVEN_AWAY, "so the job of RQ is left alone"
        assert not await at.redis.hexists(jobkit_rq.detail_key("t"), jobkit_rq.FAILURE)


async def test_a_task_comes_back_to_the_worker_that_still_runs_it(
    redis_url: str, tmp_path: Path
) -> None:
    begun: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def waits(request: RunRequest) -> JobResult:
        go = asyncio.Event()
        begun.put_nowait(go)
        await go.wait()
        return await converts(request)

    async with bench(redis_url, tmp_path, waits) as at:
        earlier = asyncio.ensure_future(at.runner.run("t", task_data()))
        await begun.get()
        await at.redis.hincrby(jobkit_rq.detail_key("t"), jobkit_rq.LOSSES, 1)
        later = asyncio.ensure_future(at.runner.run("t", task_data()))
        with pytest.raises(TaskFailed) as caught:
            await earlier
        assert caught.value.failure is GIVEN_AWAY
        (await begun.get()).set()
        assert await later == "docling:results:t"
        assert at.runner.running == []
        assert await at.statuses(3) == ["started", "started", "success"]


async def test_a_sign_of_life_is_given_again_and_again(redis_url: str, tmp_path: Path) -> None:
    quick = Liveness(beat_every_s=0.01, expires_s=7)
    async with bench(redis_url, tmp_path, hangs, quick) as at:
        key = jobkit_rq.heartbeat_key(at.config, "t")
        running = asyncio.ensure_future(at.runner.run("t", task_data()))
        assert await at.statuses(1) == ["started"]
        for _ in range(3):
            await until(lambda: at.redis.exists(key))
            assert 0 < await at.redis.ttl(key) <= 7
            await at.redis.delete(key)
        at.runner.stop(CANCELLED)
        with pytest.raises(TaskFailed):
            await running


async def test_progress_is_stored_and_told(redis_url: str, tmp_path: Path) -> None:
    told = asyncio.Event()

    async def progresses(request: RunRequest) -> JobResult:
        for page in range(3):
            request.listeners.on_progress(JobProgress(phase="process", completed_pages=page))
        await told.wait()
        return await converts(request)

    async with bench(redis_url, tmp_path, progresses) as at:
        running = asyncio.ensure_future(at.runner.run("t", task_data()))
        await at.messages.next()
        update = await at.messages.next()
        assert update.task_status == "started"
        assert update.progress == JobProgress(phase="process", completed_pages=2)
        stored = await at.redis.hget(jobkit_rq.detail_key("t"), jobkit_rq.PROGRESS)
        assert JobProgress.model_validate_json(stored) == update.progress
        told.set()
        await running


async def test_a_result_survives_a_restart_of_redis(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:

        async def outlives_redis(request: RunRequest) -> JobResult:
            result = await converts(request)
            await asyncio.to_thread(server.stop)
            asyncio.get_running_loop().run_in_executor(None, server.start)
            return result

        folders = tmp_path / "tasks"
        folders.mkdir()
        client = redis.asyncio.Redis.from_url(server.url)
        setup = TaskSetup(folders, {}, None, False, Liveness(), int)
        config = jobkit_rq.orchestrator_config(rq_settings(server.url))
        records = RqTaskRecords(client, client, config)
        runner = TaskRunner(outlives_redis, records, CallbackDelivery(), setup)
        key = await runner.run("t", task_data())
        assert await client.get(key) == b"packed"
        await client.aclose()


# ---- what a gateway queued -----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> TaskFolder:
    return TaskFolder.create(tmp_path, "t")


@pytest.fixture
def setup(tmp_path: Path) -> TaskSetup:
    storage = {"url_expiration": 60}
    return TaskSetup(tmp_path, {"max_num_pages": 3}, storage, False, Liveness(), lambda: 0)


def test_sources_of_every_kind(folder: TaskFolder, setup: TaskSetup) -> None:
    s3 = {"kind": "s3", "bucket": "b", "secret_key": "k"}
    http = {"kind": "http", "url": "https://example.com/a.pdf", "headers": {"X-A": 1}}
    spec = stage_job(task_data(sources=[*task_data()["sources"], http, s3]), folder, setup)
    document, url, connector = spec.sources
    assert document.filename == "t.md"  # type: ignore[union-attr]
    assert folder.input(0).stat().st_mode & 0o777 == 0o600
    assert url == RemoteUrl(url="https://example.com/a.pdf", headers={"X-A": "1"})
    assert connector == ConnectorSource(config=s3)
    assert spec.converter_config == {"max_num_pages": 3}
    assert spec.presigned_config == {"url_expiration": 60}


def test_what_is_not_base64_is_refused(folder: TaskFolder, setup: TaskSetup) -> None:
    source = {"kind": "file", "base64_string": "A", "filename": "a.md"}
    with pytest.raises(TaskFailed, match="Document 1 is not base64") as caught:
        stage_job(task_data(sources=[source]), folder, setup)
    assert caught.value.failure.category == "policy"


def test_a_chunk_task(folder: TaskFolder, setup: TaskSetup) -> None:
    spec = stage_job(
        task_data(
            task_type="chunk",
            chunking_options={"chunker": "hybrid"},
            chunking_export_options={"include_converted_doc": True},
            targets=None,
            target={"kind": "zip"},
        ),
        folder,
        setup,
    )
    assert (spec.task_type, spec.include_converted_doc) == ("chunk", True)
    assert spec.chunking_options == {"chunker": "hybrid"}
    assert spec.targets == [{"kind": "zip"}]


# ---- RQ's part -----------------------------------------------------------------------------------


class ScriptedHost:
    """Stands where the worker process is; remembers what RQ's worker asked of it."""

    def __init__(self, url: str) -> None:
        settings = rq_settings(url, eng_rq_queue_name="urgent,convert")
        self.config = jobkit_rq.orchestrator_config(settings)
        self.queue_names = settings.eng_rq_queue_names
        self.connection = redis.Redis.from_url(url)
        self.ran: list[str] = []
        self.stopped: list[tuple[Failure, str | None]] = []
        self.cleared = 0
        self.after: list[str] = []
        self.failure: Failure | None = None

    def run_task(self, job: Job, task_data: dict[str, Any]) -> str:
        assert task_data["sources"], "the documents are there"
        self.ran.append(job.id)
        if self.failure is not None:
            raise TaskFailed(self.failure)
        return f"docling:results:{job.id}"

    def stop_task(self, failure: Failure, task_id: str | None = None) -> None:
        self.stopped.append((failure, task_id))

    def clear(self) -> None:
        self.cleared += 1

    def after_job(self, task_id: str) -> None:
        self.after.append(task_id)

    stopping = False
    arrivals = 0

    def wait_for_arrival(self, since: int, within_s: float) -> None:
        raise AssertionError(f"with burst it does not wait, not {(since, within_s)}")


@pytest.fixture
def host(redis_url: str) -> Iterator[ScriptedHost]:
    host = ScriptedHost(redis_url)
    yield host
    host.connection.close()


def work_off(host: ScriptedHost) -> None:
    """Take jobs until the queues are empty."""
    JobTaker(host).work(burst=True)


def queue(
    host: ScriptedHost, task_id: str, name: str = "convert", function: str = "any.name"
) -> Job:
    jobs = Queue(name, connection=host.connection)
    return jobs.enqueue(function, kwargs={"task_data": task_data(task_id)}, job_id=task_id)


def test_jobs_are_run_in_the_order_of_the_queues(host: ScriptedHost) -> None:
    queue(host, "later")
    queue(host, "sooner", "urgent")
    work_off(host)
    assert host.ran == ["sooner", "later"]
    assert host.after == ["sooner", "later"]


def test_whatever_a_job_names_is_not_called(host: ScriptedHost) -> None:
    job = queue(host, "t", function="os.abort")
    work_off(host)
    assert job.get_status() == "finished"
    assert job.latest_result().return_value == "docling:results:t", "as jobkit's gateways read it"


def test_a_finished_job_keeps_no_documents(host: ScriptedHost) -> None:
    job = queue(host, "t")
    work_off(host)
    kept = Job.fetch(job.id, connection=host.connection).kwargs["task_data"]
    assert kept["sources"] == []
    assert kept["task_id"] == "t"
    assert host.connection.ttl(job.key) > 0


def test_a_failed_job_ends_and_the_next_is_run(
    host: ScriptedHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.failure = FAILURE
    jobs = [queue(host, "a"), queue(host, "b")]
    with caplog.at_level("DEBUG", logger="docling_serve.engines.rq"):
        work_off(host)
    assert host.ran == ["a", "b"]
    assert [job.get_status() for job in jobs] == ["failed", "failed"]
    assert "job a failed: too slow" in caplog.text


def test_a_job_that_another_worker_has_is_left_alone(host: ScriptedHost) -> None:
    host.failure = GIVEN_AWAY
    job = queue(host, "t")
    work_off(host)
    assert job.get_status() == "started"
    assert job.id not in job.failed_job_registry.get_job_ids()
    assert job.id not in job.started_job_registry.get_job_ids(), "of this worker there is no trace"
    assert Job.fetch("t", connection=host.connection).kwargs["task_data"]["sources"]


def test_a_job_that_was_put_back_meanwhile_is_left_alone(
    host: ScriptedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker cannot say so itself: Redis did not answer it for too long."""
    job = queue(host, "t")
    lines = Lines(host.connection, [Queue("convert", connection=host.connection)])

    def loses(*_: object) -> str:
        host.ran.append("t")
        if len(host.ran) == 1:
            assert lines.try_again("t", "convert", jobkit_rq.detail_key("t"), 3) is Again.WAITS
            raise JobTimeoutException
        return "docling:results:t"

    monkeypatch.setattr(host, "run_task", loses)
    JobTaker(host).work(burst=True, max_jobs=1)
    assert (job.get_status(), job.get_position()) == ("queued", 0)
    work_off(host)
    assert (job.get_status(), host.ran) == ("finished", ["t", "t"])


def test_the_job_that_asks_to_clear(host: ScriptedHost) -> None:
    Queue("convert", connection=host.connection).enqueue(jobkit_rq.CLEAR_FUNCTION)
    work_off(host)
    assert (host.cleared, host.ran) == (1, [])


def test_commands_to_one_worker(host: ScriptedHost) -> None:
    taker = JobTaker(host)
    host.connection.hset(taker.key, "current_job", "t")

    def hear(**command: str) -> None:
        taker.handle_payload({"data": json.dumps(command).encode()})

    hear(command="stop-job", job_id="another")
    assert host.stopped == []
    hear(command="stop-job", job_id="t")
    assert host.stopped == [(CANCELLED, "t")]
    hear(command=jobkit_rq.CLEAR_COMMAND)
    assert host.cleared == 1
    hear(command="a word of the future")


@pytest.mark.parametrize(("limit_s", "runs_on"), [(-1, True), (60, False)])
def test_a_job_without_a_limit_is_not_taken_for_lost(
    host: ScriptedHost, limit_s: int, runs_on: bool
) -> None:
    """RQ would, after seven minutes in which nobody has renewed it."""
    jobs = Queue("convert", connection=host.connection)
    job = jobs.enqueue("any.name", job_id=f"t{limit_s}", job_timeout=limit_s)
    taker = JobTaker(host)
    taker.register_birth()
    expires_s = taker.get_heartbeat_ttl(job)
    taker.heartbeat(expires_s)
    assert (expires_s > 86_400) is runs_on
    assert host.connection.ttl(taker.key) <= 86_400, "one that was lost is not listed for ever"


async def test_a_gateway_and_a_worker(redis_url: str, tmp_path: Path) -> None:
    """Both of ours, from the request to the reply."""
    async with gateway(redis_url) as engine, bench(redis_url, tmp_path, fails) as at:
        task_id = (await engine.submit(markdown())).task_id
        waiting = asyncio.ensure_future(engine.wait_finished(task_id, "default", 60))
        queued = Job.fetch(task_id, connection=engine._redis_conn).kwargs["task_data"]
        with pytest.raises(TaskFailed):
            await at.runner.run(task_id, queued)
        assert (await waiting).failure == FAILURE
