"""The journal's interface: each call is answered once it is on the disk."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from docling_serve.callbacks.outbox import Delivery
from docling_serve.engines.local.journal.records import (
    IllegalMove,
    JournalUnusable,
    TaskRow,
)
from docling_serve.engines.local.journal.schema import migrate
from docling_serve.engines.local.journal.writer import JournalWriter, MemoryWriter
from docling_serve.engines.local.states import JOURNALED, MAY_COME_FROM, TaskState
from docling_serve.errors import Failure
from docling_serve.jobs.spec import JobResult

T = TypeVar("T")

_COLUMNS = tuple(field.name for field in dataclasses.fields(TaskRow))


class Journal:
    """Tasks and deliveries in one SQLite database: a file, written by a thread of its own, or in
    memory.

    Calls are executed in the order in which they are made, and each future is done once its write
    has been committed. The future raises ``OSError`` when the disk is full or fails; the journal is
    then unchanged by that call.
    """

    def __init__(self, writer: JournalWriter | MemoryWriter) -> None:
        self._writer = writer

    @classmethod
    def in_memory(cls) -> Journal:
        """A journal that does not outlive this process, for tasks that do not either."""
        return cls(MemoryWriter(connect(None, durable=False)))

    @classmethod
    def open(cls, path: Path, *, durable: bool) -> Journal:
        """Open the journal at ``path``; it is created, or migrated to this version. Blocks.

        With ``durable`` each commit reaches the disk itself; without it a commit survives the end
        of the process, but not that of the machine.

        Raises:
            JournalUnusable: it is damaged, not a journal, or from a newer server.
        """
        return cls(JournalWriter(connect(path, durable=durable)))

    async def close(self) -> None:
        """Commit pending calls, and close the file."""
        await asyncio.to_thread(self._writer.close)

    # ---- tasks ------------------------------------------------------------------------------

    def accept(self, task: TaskRow) -> asyncio.Future[None]:
        """Add a new task.

        Raises:
            sqlite3.IntegrityError: the task, or its tenant's idempotency key, is already in it.
        """
        return self._do(lambda connection: _insert(connection, task))

    def started(self, task_id: str, at: float) -> asyncio.Future[None]:
        """Record that one more attempt starts."""
        return self.move(task_id, TaskState.STARTED, started=at)

    def requeued(self, task_id: str, *, counts: bool) -> asyncio.Future[None]:
        """Record that the server ended during the attempt. The caller decides whether it counts."""

        def work(connection: sqlite3.Connection) -> None:
            _move(connection, task_id, TaskState.QUEUED, {"started": None})
            if not counts:
                connection.execute(
                    "UPDATE tasks SET attempts = attempts - 1 WHERE task_id = ?", (task_id,)
                )

        return self._do(work)

    def succeeded(
        self, task_id: str, result: JobResult, result_bytes: int, at: float
    ) -> asyncio.Future[None]:
        """Record that the task has finished, with ``result`` in its folder."""
        return self.move(
            task_id,
            TaskState.SUCCESS,
            finished=at,
            result=result.model_dump_json(),
            result_bytes=result_bytes,
        )

    def failed(self, task_id: str, failure: Failure, at: float) -> asyncio.Future[None]:
        """Record that the task has finished without a result."""
        text = json.dumps(dataclasses.asdict(failure))
        return self.move(task_id, TaskState.FAILURE, finished=at, failure=text)

    def fetched(self, task_id: str, at: float) -> asyncio.Future[None]:
        """Record that a client has read the result; only the first time counts."""
        return self._do(
            lambda connection: _update(
                connection, "fetched = coalesce(fetched, ?)", at, task_id=task_id
            )
        )

    def mark_callbacks_queued(self, task_id: str) -> asyncio.Future[None]:
        """Record that the last event of its callbacks has been added before this call."""
        return self._do(
            lambda connection: _run(
                connection, "UPDATE tasks SET pending_callbacks = NULL WHERE task_id = ?", task_id
            )
        )

    def forget(self, task_id: str) -> asyncio.Future[None]:
        """Drop a task, whatever its state; no error if it does not exist. Its deliveries stay."""
        return self._do(
            lambda connection: _run(connection, "DELETE FROM tasks WHERE task_id = ?", task_id)
        )

    def tasks(self) -> asyncio.Future[list[TaskRow]]:
        """Every task, in order of acceptance."""
        return self._do(_all_tasks)

    def move(self, task_id: str, to: TaskState, **changes: object) -> asyncio.Future[None]:
        """Move a task to another state.

        Raises:
            IllegalMove: no such task is in a state that allows the move.
        """
        return self._do(lambda connection: _move(connection, task_id, to, changes))

    # ---- deliveries -------------------------------------------------------------------------

    def add_delivery(
        self, task_id: str, target: dict[str, Any], body: dict[str, Any], now: float
    ) -> asyncio.Future[int]:
        """Keep an event until it is delivered; returns its id. Ids grow: the order of events."""

        def work(connection: sqlite3.Connection) -> int:
            cursor = connection.execute(
                "INSERT INTO deliveries (task_id, target, body, due, created)"
                " VALUES (?, ?, ?, ?, ?)",
                (task_id, json.dumps(target), json.dumps(body), now, now),
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

        return self._do(work)

    def pending_deliveries(self) -> asyncio.Future[list[Delivery]]:
        """What is still to be delivered, in order."""
        return self._do(_all_deliveries)

    def postpone_delivery(self, delivery_id: int, due: float) -> asyncio.Future[None]:
        """Record a failed try; the next one is not before ``due``."""
        return self._do(
            lambda connection: _run(
                connection,
                "UPDATE deliveries SET attempts = attempts + 1, due = ? WHERE delivery_id = ?",
                due,
                delivery_id,
            )
        )

    def delivered(self, delivery_id: int) -> asyncio.Future[None]:
        """Drop an event that has arrived, or was given up."""
        return self._do(
            lambda connection: _run(
                connection, "DELETE FROM deliveries WHERE delivery_id = ?", delivery_id
            )
        )

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        return self._writer.do(work)


def require_usable(path: Path) -> None:
    """Check at the start whether an existing journal is usable.

    Raises:
        JournalUnusable: it is damaged, not a journal, or from a newer server.
    """
    if path.exists():
        connect(path, durable=True).close()


def connect(path: Path | None, *, durable: bool) -> sqlite3.Connection:
    """A connection for the writer's thread, with the tables of this version; without a path the
    database is in memory.

    Raises:
        JournalUnusable: it is damaged, not a journal, or from a newer server.
    """
    name = path or ":memory:"
    connection = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
    try:
        if path is not None:
            path.chmod(0o600)  # it contains addresses and keys of callbacks
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        migrate(connection)
        if path is not None and durable:
            _sync_folder(path.parent)  # the names of its files as well
    except sqlite3.DatabaseError as exc:
        connection.close()
        raise JournalUnusable(
            f"the journal {name} cannot be used: {exc}. Put a backup in its place, or move it "
            "away: the server then starts with an empty one and its tasks are lost."
        ) from exc
    except BaseException:
        connection.close()
        raise
    return connection


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _insert(connection: sqlite3.Connection, task: TaskRow) -> None:
    values = [_to_column(getattr(task, name)) for name in _COLUMNS]
    marks = ", ".join("?" for _ in _COLUMNS)
    connection.execute(
        f"INSERT INTO tasks ({', '.join(_COLUMNS)}) VALUES ({marks})",  # noqa: S608 - our names
        values,
    )


def _move(
    connection: sqlite3.Connection, task_id: str, to: TaskState, changes: dict[str, object]
) -> None:
    counted = ", attempts = attempts + 1" if to is TaskState.STARTED else ""
    names = "".join(f", {name} = ?" for name in changes)
    sources = MAY_COME_FROM[to]
    marks = ", ".join("?" for _ in sources)
    cursor = connection.execute(
        f"UPDATE tasks SET state = ?{counted}{names}"  # noqa: S608 - our names
        f" WHERE task_id = ? AND state IN ({marks})",
        (to.value, *changes.values(), task_id, *(state.value for state in sources)),
    )
    if cursor.rowcount != 1:
        raise IllegalMove(task_id, to)


def _update(connection: sqlite3.Connection, change: str, *values: object, task_id: str) -> None:
    _run(connection, f"UPDATE tasks SET {change} WHERE task_id = ?", *values, task_id)  # noqa: S608


def _run(connection: sqlite3.Connection, statement: str, *values: object) -> None:
    connection.execute(statement, values)


def _to_column(value: object) -> Any:
    if isinstance(value, TaskState):
        return JOURNALED[value].value
    if isinstance(value, JobResult):
        return value.model_dump_json()
    if isinstance(value, list):
        return json.dumps(value)
    if isinstance(value, Failure):
        return json.dumps(dataclasses.asdict(value))
    return value


def _all_tasks(connection: sqlite3.Connection) -> list[TaskRow]:
    rows = connection.execute(
        f"SELECT {', '.join(_COLUMNS)} FROM tasks ORDER BY seq"  # noqa: S608 - our names
    )
    return [_task(dict(zip(_COLUMNS, row, strict=True))) for row in rows]


def _task(row: dict[str, Any]) -> TaskRow:
    row["state"] = TaskState(row["state"])
    row["attached"] = bool(row["attached"])
    row["light"] = bool(row["light"])
    row["pending_callbacks"] = (
        json.loads(row["pending_callbacks"]) if row["pending_callbacks"] else None
    )
    row["result"] = JobResult.model_validate_json(row["result"]) if row["result"] else None
    row["names"] = json.loads(row["names"])
    row["failure"] = Failure(**json.loads(row["failure"])) if row["failure"] else None
    return TaskRow(**row)


def _all_deliveries(connection: sqlite3.Connection) -> list[Delivery]:
    rows = connection.execute(
        "SELECT delivery_id, task_id, target, body, due, created, attempts"
        " FROM deliveries ORDER BY delivery_id"
    )
    return [
        Delivery(number, task_id, json.loads(target), json.loads(body), due, created, attempts)
        for number, task_id, target, body, due, created, attempts in rows
    ]
