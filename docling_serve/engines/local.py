"""The local engine: a queue in this process, tasks run by the function it was handed.

One place changes the state of a task (:meth:`LocalEngine._move`), and everybody who waits for one
waits on an event; nothing polls.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from docling.datamodel.service.callbacks import CallbackSpec, ProgressTaskCompleted
from docling_jobkit.datamodel.task import Task
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.base_orchestrator import TaskNotFoundError

from docling_serve.engines.base import DEFAULT_TENANT, Reply, Submission, TaskView
from docling_serve.engines.jobkit_interface import JobkitInterface
from docling_serve.engines.lines import Line
from docling_serve.engines.staging import stage
from docling_serve.engines.task_record import TaskRecord
from docling_serve.engines.watch import Watch
from docling_serve.errors import CANCELLED, SHUT_DOWN, Failure, ShuttingDown, TaskFailed
from docling_serve.jobs import JobProgress, JobResult, JobSpec, TaskFolder
from docling_serve.rendering import public_failure

_log = logging.getLogger(__name__)

Runner = Callable[["LocalEngine", Task], Awaitable[JobResult]]
"""Runs one task to its end. Raises ``TaskFailed``; cancelling it stops the work."""

OnCallback = Callable[[str, Sequence[CallbackSpec], dict[str, Any]], None]


class LocalEngine(JobkitInterface):
    """Tasks of this process; they and their results end with it.

    ``hand_over`` is how many tasks may be in the hands of ``runner`` at a time. A task counts as
    started when the runner says so, so a runner may be given one more than it can run: it then
    knows that work is waiting. With ``hand_over_light`` tasks for which ``is_light`` says yes have
    a line of their own, and so many of them are handed over besides.
    """

    def __init__(
        self,
        *,
        runner: Runner,
        hand_over: int,
        hand_over_light: int = 0,
        is_light: Callable[[JobSpec], bool] = lambda _: False,
        folders: Path,
        converter_config: dict[str, Any],
        presigned_config: dict[str, Any] | None = None,
        result_removal_delay_s: float = 300.0,
        single_use_results: bool = True,
        debug_error_details: bool = False,
        on_callback: OnCallback = lambda *_: None,
        clear_converters: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # jobkit's is not annotated
        self._converter_config = converter_config
        self._presigned_config = presigned_config
        self._runner = runner
        self._folders = folders
        self._result_removal_delay_s = result_removal_delay_s
        self._single_use_results = single_use_results
        self._debug = debug_error_details
        self._on_callback = on_callback
        self._clear_converters = clear_converters
        self._records: dict[str, TaskRecord] = {}
        self._pending: dict[str, TaskRecord] = {}
        self._is_light = is_light if hand_over_light else lambda _: False
        self._lines = {False: Line(hand_over), True: Line(hand_over_light)}
        self._running: set[asyncio.Task[None]] = set()
        self._accepting = True
        self.on_ended: Callable[[Task], None] = lambda _: None

    async def submit(self, submission: Submission) -> TaskView:
        """Stage the documents, queue the task.

        Raises:
            ShuttingDown: no task is accepted any more.
            OSError: the documents could not be written.
        """
        if not self._accepting:
            raise ShuttingDown("the server is shutting down")
        task_id = str(uuid.uuid4())
        folder = TaskFolder(self._folders / task_id)
        try:
            spec = await asyncio.to_thread(self._stage, submission, task_id)
            if not self._accepting:  # the end came meanwhile
                raise ShuttingDown("the server is shutting down")
        except BaseException:
            await asyncio.to_thread(folder.remove)
            raise
        task = Task(
            task_id=task_id,
            task_type=submission.task_type,
            convert_options=submission.options,
            callbacks=list(submission.callbacks),
            target_document_version=submission.target_document_version,
        )
        record = TaskRecord(task, submission.tenant, folder, spec)
        self._records[task_id] = record
        self._pending[task_id] = record
        await self.init_task_tracking(task)
        _log.info(
            "task %s: accepted, %d document(s), %d waiting",
            task_id,
            len(spec.sources),
            len(self._pending),
        )
        self._lines[self._is_light(spec)].queue.put_nowait(record)
        return self._view(record)

    async def view(self, task_id: str, tenant: str = DEFAULT_TENANT) -> TaskView:
        return self._view(self._find(task_id, tenant))

    async def wait_finished(self, task_id: str, tenant: str, wait_s: float) -> TaskView:
        record = self._find(task_id, tenant)
        await record.wait_finished(wait_s)
        return self._view(record)

    @asynccontextmanager
    async def watch(self, task_id: str, tenant: str = DEFAULT_TENANT) -> AsyncIterator[Watch]:
        record = self._find(task_id, tenant)
        watch = Watch(self._view(record))
        record.watches.add(watch)
        try:
            yield watch
        finally:
            record.watches.discard(watch)

    async def reply(self, task_id: str, tenant: str = DEFAULT_TENANT) -> Reply | None:
        record = self._find(task_id, tenant)
        if record.result is None:
            return None
        return Reply(
            path=record.folder.root / record.result.body,
            media_type=record.result.media_type,
            download_name=record.result.download_name,
        )

    async def cancel(self, task_id: str, tenant: str, failure: Failure) -> TaskView:
        record = self._find(task_id, tenant)
        self._cancel(record, failure)
        await record.wait_finished(None)
        return self._view(record)

    async def delete(self, task_id: str, tenant: str) -> TaskView:
        record = self._find(task_id, tenant)
        self._cancel(record, CANCELLED)
        await record.wait_finished(None)
        await self.delete_task(task_id)
        return self._view(record)

    async def on_result_fetched(self, task_id: str) -> None:
        record = self._records.get(task_id)
        if not self._single_use_results or record is None or record.removal is not None:
            return
        loop = asyncio.get_running_loop()
        record.removal = loop.call_later(
            self._result_removal_delay_s, lambda: self._background(self.delete_task(task_id))
        )

    async def delete_task(self, task_id: str) -> None:
        """Forget a task and its files; one that still runs is cancelled first."""
        record = self._records.pop(task_id, None)
        if record is None:
            return
        if not record.finished:
            self._cancel(record, Failure("policy", "The task was deleted."))
            await record.wait_finished(None)
        if record.removal is not None:
            record.removal.cancel()
        await asyncio.to_thread(record.folder.remove)
        await super().delete_task(task_id)

    def folder(self, task: Task) -> TaskFolder:
        """The scratch folder of a task."""
        return self._records[task.task_id].folder

    def task_dict(self, task: Task) -> dict[str, Any]:
        """The task as plain data for a worker."""
        return self._records[task.task_id].spec.model_dump(mode="json")

    @property
    def waiting(self) -> int:
        """Tasks that have not started."""
        return len(self._pending)

    def mark_started(self, task: Task) -> None:
        """The work on a task begins."""
        self._move(self._records[task.task_id], TaskStatus.STARTED)

    def report_progress(self, task: Task, progress: JobProgress) -> None:
        """The task is at ``progress``."""
        record = self._records.get(task.task_id)
        if record is not None:
            record.progress = progress
            record.changed()
            self._tell(record)

    def relay_callback(self, task: Task, payload: dict[str, Any]) -> None:
        """The client's callbacks are due an event."""
        self._on_callback(task.task_id, task.callbacks, payload)

    async def process_queue(self) -> None:
        """Hand tasks to the runner, in order, for as long as the server runs."""
        await asyncio.gather(*(self._process(line) for line in self._lines.values()))

    async def _process(self, line: Line) -> None:
        while True:
            await line.hands.acquire()
            record = await line.queue.get()
            if record.finished:  # cancelled while it waited
                line.hands.release()
                continue
            record.runner = self._background(self._run(record))
            record.runner.add_done_callback(functools.partial(self._let_go, line, record))

    def _let_go(self, line: Line, record: TaskRecord, _: asyncio.Task[None]) -> None:
        line.hands.release()
        if not record.finished:  # it was cancelled before its first step, or while it cleaned up
            record.failure = record.failure or record.cancelled_with or SHUT_DOWN
            record.result = None
            self._move(record, TaskStatus.FAILURE)
            self._background(asyncio.to_thread(record.folder.remove))

    def drain(self) -> None:
        """Accept nothing more and give up what waits; what runs may finish."""
        self._accepting = False
        for record in list(self._pending.values()):
            self._cancel(record, SHUT_DOWN)

    def cancel_running(self) -> None:
        """Stop the tasks that run."""
        for record in list(self._records.values()):
            self._cancel(record, SHUT_DOWN)

    async def close(self) -> None:
        """Stop everything and remove every file."""
        self.drain()
        self.cancel_running()
        if self._running:
            await asyncio.wait(self._running)
        for task_id in list(self._records):
            await self.delete_task(task_id)

    async def finish_running(self, within_s: float) -> None:
        """Wait until the tasks that run have ended, at most ``within_s`` seconds."""
        runners = {r.runner for r in self._records.values() if r.runner and not r.finished}
        if runners:
            await asyncio.wait(runners, timeout=within_s)

    async def _run(self, record: TaskRecord) -> None:
        task_id = record.task.task_id
        failure: Failure | None = None
        try:
            record.result = await self._runner(self, record.task)
        except asyncio.CancelledError:
            failure = record.cancelled_with or SHUT_DOWN
        except TaskFailed as exc:
            failure = exc.failure
        except Exception as exc:  # noqa: BLE001
            # The runner's own fault must end this task and nothing else.
            _log.exception("task %s: the server failed to run it", task_id)
            failure = Failure(
                "internal", f"The server failed to run the task ({type(exc).__name__})."
            )
        record.failure = failure
        if failure is None:
            await asyncio.to_thread(record.folder.drop_inputs)
        else:
            await asyncio.to_thread(record.folder.remove)
        self._move(record, TaskStatus.FAILURE if failure else TaskStatus.SUCCESS)

    def _cancel(self, record: TaskRecord, failure: Failure) -> None:
        if record.finished:
            return
        record.cancelled_with = failure
        if record.runner is not None:
            record.runner.cancel()
            return
        record.failure = failure
        self._move(record, TaskStatus.FAILURE)
        self._background(asyncio.to_thread(record.folder.remove))

    def _move(self, record: TaskRecord, status: TaskStatus) -> None:
        """The one place where a task's state changes."""
        task = record.task
        if record.finished or task.task_status is status:
            return
        task.set_status(status)
        waited = self._pending.pop(task.task_id, None)
        if record.failure is not None:
            task.error_message = record.failure.message
            task.failure = public_failure(record.failure)
        _log.info(
            "task %s: %s%s",
            task.task_id,
            status.value,
            f" ({record.failure.category}: {record.failure.message})" if record.failure else "",
        )
        record.changed()
        self._tell(record)
        if record.finished:
            self._tell_end(record)
        if waited is not None:
            for other in self._pending.values():  # whoever waited behind it moves up
                self._tell(other)

    def _tell_end(self, record: TaskRecord) -> None:
        """A failed task's callbacks hear of it; a successful one's have its documents already."""
        self.on_ended(record.task)
        if record.failure is not None and record.task.callbacks:
            ended = ProgressTaskCompleted(task_status="failure", failure=record.task.failure)
            self.relay_callback(record.task, ended.model_dump(mode="json"))

    def _tell(self, record: TaskRecord) -> None:
        """Tell the watchers of ``record`` how it stands."""
        if record.watches:
            view = self._view(record)
            for watch in record.watches:
                watch.tell(view)

    def _stage(self, submission: Submission, task_id: str) -> JobSpec:
        folder = TaskFolder.create(self._folders, task_id)
        return stage(
            submission,
            task_id,
            folder,
            self._converter_config,
            self._debug,
            self._presigned_config,
        )

    def _find(self, task_id: str, tenant: str) -> TaskRecord:
        record = self._records.get(task_id)
        if record is None or record.tenant != tenant:
            raise TaskNotFoundError
        return record

    def _view(self, record: TaskRecord) -> TaskView:
        task = record.task
        waits = task.task_id in self._pending
        return TaskView(
            task_id=task.task_id,
            task_type=task.task_type,
            status=task.task_status,
            position=list(self._pending).index(task.task_id) + 1 if waits else None,
            num_docs=len(record.spec.sources),
            progress=record.progress,
            result=record.result,
            failure=record.failure,
            created_at=task.created_at,
            started_at=task.started_at,
            finished_at=task.finished_at,
        )

    def _background(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def list_tasks(
        self, tenant: str, state: TaskStatus | None = None, limit: int = 100
    ) -> list[TaskView]:
        own = (r for r in reversed(self._records.values()) if r.tenant == tenant)
        asked = (r for r in own if state in (None, r.task.task_status))
        return [self._view(record) for record in itertools.islice(asked, limit)]

    async def queue_size(self) -> int:
        return len(self._pending)

    async def get_queue_position(self, task_id: str) -> int | None:
        record = self._records.get(task_id)
        return self._view(record).position if record else None

    async def task_status(self, task_id: str, wait: float = 0.0) -> Task:
        task = await self.get_raw_task(task_id)
        await self._records[task_id].wait_finished(wait)
        return task

    async def clear_converters(self) -> None:
        """Give back what loaded converters hold, through the function the engine was handed."""
        await self._clear_converters()
