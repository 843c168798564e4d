"""Any sequence of moves, power cuts between them included, leaves what a plain model says."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
)

from docling_serve.engines.local.journal import IllegalMove, Journal, TaskRow
from docling_serve.engines.local.states import MAY_COME_FROM, TaskState
from docling_serve.errors import Failure
from docling_serve.jobs.spec import JobResult

T = TypeVar("T")
RESULT = JobResult(body="result.body", media_type="text/plain", processing_time=0.5)
FAILURE = Failure("internal", "It failed.")


class JournalMachine(RuleBasedStateMachine):
    task_ids = Bundle("task_ids")

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp())
        self.folder = self.base / "0"
        self.folder.mkdir()
        self.journal = self.opened()
        self.model: dict[str, TaskRow] = {}
        self.made = 0

    def opened(self) -> Journal:
        # The page cache of this machine survives; what matters is the image of the files.
        return Journal.open(self.folder / "journal.sqlite3", durable=False)

    def change(self, task_id: str, to: TaskState, **changes: object) -> None:
        task = self.model[task_id]
        self.model[task_id] = dataclasses.replace(task, state=to, **changes)  # type: ignore[arg-type]

    def legal(self, task_id: str, to: TaskState) -> bool:
        return task_id in self.model and self.model[task_id].state in MAY_COME_FROM[to]

    @rule(target=task_ids, keyed=st.booleans())
    def accept(self, keyed: bool) -> str:
        self.made += 1
        task = TaskRow(
            f"t{self.made}",
            "acme",
            "convert",
            num_docs=1,
            created=float(self.made),
            idempotency_key=f"key {self.made}" if keyed else None,
        )
        self.do(self.journal.accept, task)
        self.model[task.task_id] = task
        return task.task_id

    @rule(task_id=task_ids)
    def start(self, task_id: str) -> None:
        if self.legal(task_id, TaskState.STARTED):
            self.do(self.journal.started, task_id, at=2.0)
            attempts = self.model[task_id].attempts + 1
            self.change(task_id, TaskState.STARTED, started=2.0, attempts=attempts)
        else:
            self.refuses(self.journal.started, task_id, at=2.0)

    @rule(task_id=task_ids, counts=st.booleans())
    def requeue(self, task_id: str, counts: bool) -> None:
        if self.legal(task_id, TaskState.QUEUED):
            self.do(self.journal.requeued, task_id, counts=counts)
            attempts = self.model[task_id].attempts - (not counts)
            self.change(task_id, TaskState.QUEUED, started=None, attempts=attempts)
        else:
            self.refuses(self.journal.requeued, task_id, counts=counts)

    @rule(task_id=task_ids)
    def succeed(self, task_id: str) -> None:
        if self.legal(task_id, TaskState.SUCCESS):
            self.do(self.journal.succeeded, task_id, RESULT, 5, at=3.0)
            done = {"finished": 3.0, "result": RESULT, "result_bytes": 5}
            self.change(task_id, TaskState.SUCCESS, **done)
        else:
            self.refuses(self.journal.succeeded, task_id, RESULT, 5, at=3.0)

    @rule(task_id=task_ids)
    def fail(self, task_id: str) -> None:
        if self.legal(task_id, TaskState.FAILURE):
            self.do(self.journal.failed, task_id, FAILURE, at=3.0)
            self.change(task_id, TaskState.FAILURE, finished=3.0, failure=FAILURE)
        else:
            self.refuses(self.journal.failed, task_id, FAILURE, at=3.0)

    @rule(task_id=consumes(task_ids))
    def forget(self, task_id: str) -> None:
        self.do(self.journal.forget, task_id)
        self.model.pop(task_id, None)

    @rule()
    def end_and_start_again(self) -> None:
        asyncio.run(self.journal.close())
        self.journal = self.opened()

    @rule()
    def lose_the_server(self) -> None:
        """Go on with the files as they are at this moment, and with nothing else."""
        image = self.base / str(int(self.folder.name) + 1)
        shutil.copytree(self.folder, image)
        asyncio.run(self.journal.close())
        self.folder = image
        self.journal = self.opened()
        check = sqlite3.connect(self.folder / "journal.sqlite3")
        assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        check.close()

    @invariant()
    def the_journal_says_what_happened(self) -> None:
        assert self.do(self.journal.tasks) == list(self.model.values())

    @staticmethod
    def do(move: Callable[..., Awaitable[T]], *arguments: object, **named: object) -> T:
        async def work() -> T:
            return await move(*arguments, **named)

        return asyncio.run(work())

    def refuses(self, move: Callable[..., Awaitable[None]], *args: object, **named: object) -> None:
        try:
            self.do(move, *args, **named)
        except IllegalMove:
            return
        raise AssertionError("an illegal move was let through")

    def teardown(self) -> None:
        asyncio.run(self.journal.close())
        shutil.rmtree(self.base)


JournalMachine.TestCase.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, derandomize=True, database=None
)
TestJournalMachine = JournalMachine.TestCase
