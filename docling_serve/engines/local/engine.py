"""The local engine: tasks of this machine, in a journal, run through the gate it is given.

This module implements the engine's interface. :mod:`.acceptance` accepts tasks, :mod:`.conductor`
runs them, :mod:`.recovery` restores them after a restart, :mod:`.upkeep` removes expired ones.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from docling_jobkit.datamodel.task import Task
from docling_jobkit.datamodel.task_meta import TaskStatus
from docling_jobkit.orchestrators.base_orchestrator import TaskNotFoundError

from docling_serve.engines.base import (
    DEFAULT_TENANT,
    CacheUse,
    Capacity,
    OnCallback,
    Reply,
    Submission,
    TaskView,
    Watch,
)
from docling_serve.engines.local.acceptance import Acceptance
from docling_serve.engines.local.conductor import Conductor
from docling_serve.engines.local.disk import Disk
from docling_serve.engines.local.jobkit_interface import JobkitInterface
from docling_serve.engines.local.journal import Journal
from docling_serve.engines.local.lines import Line, Lines
from docling_serve.engines.local.outcomes import Outcomes
from docling_serve.engines.local.recovery import Recovered, Restorer
from docling_serve.engines.local.result_cache import ResultCache, drop_cache
from docling_serve.engines.local.rules import LocalRules
from docling_serve.engines.local.states import TaskState
from docling_serve.engines.local.task_record import TaskRecord
from docling_serve.engines.local.upkeep import Upkeep
from docling_serve.engines.task_end import ended_event
from docling_serve.errors import CANCELLED, DELETED, SHUT_DOWN, Failure, ShuttingDown
from docling_serve.jobs.run_request import Gate

_log = logging.getLogger(__name__)


class LocalEngine(JobkitInterface):
    """Tasks of this process, which ``gate`` runs, by ``rules``.

    ``journal`` and ``folders`` hold what outlives this process. Their creator closes them, after
    the engine is closed. Results are kept for later requests in ``cache_folder``. ``on_callback``
    delivers the events that a task's callbacks are due.
    """

    def __init__(
        self,
        gate: Gate,
        rules: LocalRules,
        folders: Path,
        journal: Journal | None = None,
        *,
        disk: Disk | None = None,
        cache_folder: Path | None = None,
        on_callback: OnCallback = lambda *_: None,
        clear_converters: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # jobkit's is not annotated
        self._rules = rules
        self._on_callback = on_callback
        self._clear_converters = clear_converters
        self._records: dict[str, TaskRecord] = {}
        self.on_ended: Callable[[TaskView], None] = lambda _: None

        self._journal = journal or Journal.in_memory()
        disk = disk or Disk(sync=rules.keep)
        self._lines = Lines(
            Line(rules.hand_over, rules.workers),
            Line(rules.hand_over_light, rules.workers_light) if rules.hand_over_light else None,
            rules.limits,
        )
        self._cache_folder = cache_folder
        self._cache = None
        if rules.cache is not None and cache_folder is not None:
            self._cache = ResultCache(cache_folder, rules.cache, disk)
        self._outcomes = Outcomes(self._journal, disk, self._cache)
        self._conductor = Conductor(
            gate,
            self._lines,
            self._journal,
            self._outcomes,
            keep=rules.keep,
            on_ended=self._on_end,
            on_callback=self._call_back,
        )
        self._upkeep = Upkeep(
            self._records,
            self._lines,
            self._outcomes,
            rules.retention,
            self._conductor.cancel,
            self.delete_task,
            self._cache,
        )
        self._acceptance = Acceptance(
            self._journal, disk, folders, self._lines, rules.deployment, self._cache
        )
        self._restorer = Restorer(folders, rules.deployment, rules.max_attempts)

    # ---- API --------------------------------------------------------------------------------

    async def submit(self, submission: Submission) -> TaskView:
        """Stage the documents, journal and queue the task.

        Raises:
            ShuttingDown: no task is accepted any more.
            QueueFull: too much waits already.
            KeyReused: its key was used before, with another request.
            OSError: the task could not be written.
        """
        if not self._conductor.accepting:
            raise ShuttingDown("the server is shutting down")
        await self._outcomes.write_again()  # the key of a deleted task must not block this one
        record, is_new = await self._acceptance.accept(submission)
        if is_new and record.from_cache:
            _log.info("task %s: its result comes from the result cache", record.task_id)
            self._records[record.task_id] = record
            self._on_end(record)
        elif is_new:
            _log.info(
                "task %s: accepted, %d document(s), %d waiting",
                record.task_id,
                record.row.num_docs,
                len(self._lines) + 1,
            )
            self._records[record.task_id] = record
            self._conductor.enter(record)
        return self._conductor.view(record)

    async def view(self, task_id: str, tenant: str = DEFAULT_TENANT) -> TaskView:
        return self._conductor.view(self._find(task_id, tenant))

    async def wait_finished(self, task_id: str, tenant: str, wait_s: float) -> TaskView:
        record = self._find(task_id, tenant)
        await record.wait_settled(wait_s)
        if record.state is TaskState.PARKED and wait_s > 0:
            raise ShuttingDown("the server is shutting down; the task continues after the restart")
        return self._conductor.view(record)

    @asynccontextmanager
    async def watch(self, task_id: str, tenant: str = DEFAULT_TENANT) -> AsyncIterator[Watch]:
        record = self._find(task_id, tenant)
        watch = Watch(self._conductor.view(record))
        if record.state is TaskState.PARKED:
            watch.close()
        record.watches.add(watch)
        try:
            yield watch
        finally:
            record.watches.discard(watch)

    async def reply(self, task_id: str, tenant: str = DEFAULT_TENANT) -> Reply | None:
        record = self._find(task_id, tenant)
        result = record.row.result
        if result is None:
            return None
        return Reply(
            path=record.folder.root / result.body,
            media_type=result.media_type,
            download_name=result.download_name,
        )

    async def cancel(self, task_id: str, tenant: str, failure: Failure) -> TaskView:
        record = self._find(task_id, tenant)
        self._conductor.cancel(record, failure)
        await record.wait_settled(None)
        return self._conductor.view(record)

    async def delete(self, task_id: str, tenant: str) -> TaskView:
        record = self._find(task_id, tenant)
        self._conductor.cancel(record, CANCELLED)
        await record.wait_settled(None)
        if self._cache is not None:
            await self._cache.forget(record.cache_key, task_id)
        await self.delete_task(task_id)
        return self._conductor.view(record)

    async def on_result_fetched(self, task_id: str) -> None:
        record = self._records.get(task_id)
        if record is None or record.row.fetched is not None:
            return
        record.note(fetched=(now := time.time()))
        self._conductor.background(self._journal.fetched(task_id, now))
        self._remove_later(record)

    async def delete_task(self, task_id: str) -> None:
        """Forget a task and its files; one that still runs is cancelled first."""
        record = self._records.get(task_id)
        if record is None:
            return
        self._conductor.cancel(record, DELETED)
        await record.wait_settled(None)
        if self._records.pop(task_id, None) is None:
            return  # another call was faster
        self._acceptance.forget(record)
        if record.removal is not None:
            record.removal.cancel()
        await self._outcomes.forget(task_id)
        await asyncio.to_thread(record.folder.remove)

    async def clear_results(self, older_than: float = 0.0, tenant: str | None = None) -> None:
        before = time.time() - older_than
        for task_id, record in list(self._records.items()):
            row = record.row
            if tenant in (None, row.tenant) and row.finished is not None and row.finished < before:
                await self.delete_task(task_id)
        if self._cache is not None:
            await self._cache.clear(before, tenant)

    async def list_tasks(
        self, tenant: str, state: TaskStatus | None = None, limit: int = 100
    ) -> list[TaskView]:
        own = (r for r in reversed(self._records.values()) if r.row.tenant == tenant)
        asked = (r for r in own if state in (None, r.status))
        return [self._conductor.view(record) for record in itertools.islice(asked, limit)]

    async def capacity(self, tenant: str) -> Capacity | None:
        return self._lines.capacity(tenant)

    async def queue_size(self) -> int:
        return len(self._lines)

    async def clear_converters(self) -> None:
        """Free what loaded converters hold, through the function that the engine was given."""
        await self._clear_converters()

    @property
    def cache_use(self) -> CacheUse | None:
        return self._cache.use if self._cache is not None else None

    @property
    def waiting(self) -> int:
        """Tasks that have not started."""
        return len(self._lines)

    @property
    def waiting_since(self) -> float | None:
        return min((record.row.created for record in self._lines.waiting()), default=None)

    # ---- life cycle -------------------------------------------------------------------------

    async def recover(self) -> None:
        """Restore what the earlier server left in journal and folders. Must be called first."""
        if self._cache is not None:
            await self._cache.load()
        elif self._cache_folder is not None:
            await asyncio.to_thread(drop_cache, self._cache_folder)
        found = await self._restorer.restore(await self._journal.tasks())
        for task_id in found.forgotten:
            await self._journal.forget(task_id)
        for recovered in found.tasks:
            await self._take_over(recovered)
        if found.tasks:
            _log.info(
                "%d tasks restored from the journal, %d waiting", len(found.tasks), len(self._lines)
            )

    async def process_queue(self) -> None:
        """Hand tasks to the runner, each line in its order, for as long as the server runs."""
        await asyncio.gather(self._conductor.process(), self._upkeep.run())

    def drain(self) -> None:
        """Accept nothing more; waiting tasks are cancelled, or left for the next server. Running
        ones may finish."""
        self._conductor.drain()

    def cancel_running(self) -> None:
        """Stop the running tasks."""
        for record in list(self._records.values()):
            self._conductor.cancel(record, SHUT_DOWN)

    async def finish_running(self, within_s: float) -> None:
        """Wait until the running tasks have finished, at most ``within_s`` seconds."""
        await self._conductor.finish_running(within_s)

    async def close(self) -> None:
        """Stop everything; unless tasks are kept, remove every file."""
        self.drain()
        self.cancel_running()
        await self._conductor.settle()
        for record in self._records.values():
            if record.removal is not None:
                record.removal.cancel()
        if not self._rules.keep:
            for task_id in list(self._records):
                await self.delete_task(task_id)

    # ---- internals --------------------------------------------------------------------------

    async def _take_over(self, recovered: Recovered) -> None:
        record = recovered.record
        self._acceptance.remember(record)
        self._records[record.task_id] = record
        if record.state.finished:
            self._lines.learn(record)
            self._tell_callbacks(record)
            self._remove_later(record)
        elif recovered.ends_with is not None:
            self._conductor.cancel(record, recovered.ends_with)
        else:
            self._lines.keep(record.row.tenant, record.row.input_bytes)
            await self._conductor.take_over(record)

    def _on_end(self, record: TaskRecord) -> None:
        """Notify the task's callbacks of its end, whatever the cause."""
        self.on_ended(self._conductor.view(record))
        self._tell_callbacks(record)

    def _call_back(self, record: TaskRecord, payload: dict[str, Any]) -> None:
        """Queue an event for the client's callbacks."""
        if callbacks := record.callbacks:
            self._on_callback(record.task_id, callbacks, payload)

    def _tell_callbacks(self, record: TaskRecord) -> None:
        callbacks = record.callbacks
        if not callbacks:
            return
        self._on_callback(record.task_id, callbacks, ended_event(record.row.failure))
        record.note(pending_callbacks=None)
        # If killed before this write, the next server reports it again rather than never.
        self._journal.mark_callbacks_queued(record.task_id).add_done_callback(_log_if_not_marked)

    def _remove_later(self, record: TaskRecord) -> None:
        """Schedule the removal of a single-use result after it was read."""
        fetched, task_id = record.row.fetched, record.task_id
        if not self._rules.single_use_results or fetched is None:
            return
        left_s = max(0.0, fetched + self._rules.result_removal_delay_s - time.time())
        record.removal = asyncio.get_running_loop().call_later(
            left_s, lambda: self._conductor.background(self.delete_task(task_id))
        )

    def _find(self, task_id: str, tenant: str) -> TaskRecord:
        record = self._records.get(task_id)
        if record is None or record.row.tenant != tenant:
            raise TaskNotFoundError
        return record

    async def get_queue_position(self, task_id: str) -> int | None:
        record = self._records.get(task_id)
        return self._conductor.view(record).position if record else None

    async def get_raw_task(self, task_id: str) -> Task:
        if task_id not in self._records:
            raise TaskNotFoundError
        return self._records[task_id].as_task()

    async def task_status(self, task_id: str, wait: float = 0.0) -> Task:
        if task_id in self._records:
            await self._records[task_id].wait_settled(wait)
        return await self.get_raw_task(task_id)


def _log_if_not_marked(written: asyncio.Future[None]) -> None:
    if not written.cancelled() and (error := written.exception()) is not None:
        _log.warning("the end of a task may be sent to callbacks twice: %s", error)
