"""The disk is full at each write of a task's life, in turn; then there is room again."""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from docling_jobkit.datamodel.task_meta import TaskStatus

from docling_serve.engines.base import DEFAULT_TENANT
from docling_serve.engines.local.disk import Disk
from docling_serve.engines.local.engine import LocalEngine
from docling_serve.engines.local.journal import Journal
from docling_serve.engines.local.journal.journal import connect
from docling_serve.engines.local.journal.writer import JournalWriter
from docling_serve.engines.local.states import TaskState
from docling_serve.errors import Failure, TaskFailed
from tests.unit.engines.hand_runner import HandRunner, finished, left_in, submission, submit
from tests.unit.engines.kept_server import JOURNAL, assert_sound, image, kept_server

#: More than a life has writes; that the last turn meets a disk that is never full says so.
WRITES = 24


class Room:
    """Room for ``writes`` writes; after that the disk is full until it is ``freed``."""

    def __init__(self, writes: int) -> None:
        self.left = writes
        self.was_full = False

    def take(self) -> None:
        self.left -= 1
        if self.left < 0:
            self.was_full = True
            raise OSError(errno.ENOSPC, "No space left on device")

    def free(self) -> None:
        self.left = 10**9


class FullDisk(Disk):
    def __init__(self, room: Room) -> None:
        super().__init__(sync=True)
        self._room = room

    def write(self, target: BinaryIO, block: bytes) -> None:
        self._room.take()
        super().write(target, block)

    def sync_file(self, path: Path) -> None:
        self._room.take()
        super().sync_file(path)


class FullDatabase:
    """A connection whose commits fail as SQLite's do: with its error, and rolled back."""

    def __init__(self, connection: sqlite3.Connection, room: Room) -> None:
        self._connection = connection
        self._room = room
        self._wrote = False

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        self._wrote |= statement.split(maxsplit=1)[0] in ("INSERT", "UPDATE", "DELETE")
        if statement == "COMMIT" and self._wrote:
            self._wrote = False
            try:
                self._room.take()
            except OSError:
                self._connection.execute("ROLLBACK")
                raise sqlite3.OperationalError("database or disk is full") from None
        return self._connection.execute(statement, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


async def life(engine: LocalEngine, runner: HandRunner) -> str | None:
    """A task is submitted, runs, ends, is read and deleted; None if it was not accepted. Every
    error is one that a client is told clearly."""
    refused: list[int | None] = []
    try:
        view = await engine.submit(submission(idempotency_key="k"))
    except OSError as exc:
        refused.append(exc.errno)
    if refused:
        assert (refused, engine.waiting) == ([errno.ENOSPC], 0)
        return None
    runner.end(view.task_id)
    view = await finished(engine, view.task_id)
    if view.status is TaskStatus.FAILURE:
        assert view.failure is not None
        assert (view.failure.category, view.failure.retryable) == ("capacity", True)
        assert "disk is full" in view.failure.message
    await engine.on_result_fetched(view.task_id)
    return view.task_id


async def test_what_could_not_be_written_is_written_once_whoever_tries_again(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "scratch"
    (folder / "tasks").mkdir(parents=True)
    room = Room(10**9)
    connection: Any = FullDatabase(connect(folder / JOURNAL, durable=True), room)
    journal = Journal(JournalWriter(connection))
    runner = HandRunner()
    async with kept_server(folder, runner, journal=journal, hand_over=2) as engine:
        tasks = await submit(engine, 2)
        await engine._journal.tasks()
        room.left = 0
        for task in tasks:
            runner.end(task, TaskFailed(Failure("policy", "No.")))
        ended = [await finished(engine, task) for task in tasks]
        assert [view.failure.message for view in ended if view.failure] == ["No."] * 2

        room.free()
        await asyncio.gather(*(engine._outcomes.write_again() for _ in range(3)))
        rows = await engine._journal.tasks()
        assert [row.state for row in rows] == [TaskState.FAILURE] * 2


async def test_a_task_that_was_deleted_meanwhile_is_not_in_the_way(tmp_path: Path) -> None:
    async with kept_server(tmp_path / "scratch", HandRunner()) as engine:
        engine._outcomes._unwritten["gone"] = Failure("policy", "No.")
        await engine._outcomes.write_again()
        assert (await engine.submit(submission())).status is TaskStatus.PENDING


@pytest.mark.parametrize("writes", range(WRITES))
async def test_a_full_disk_is_told_and_healed(tmp_path: Path, writes: int) -> None:
    folder = tmp_path / "scratch"
    (folder / "tasks").mkdir(parents=True)
    room = Room(writes)
    connection: Any = FullDatabase(connect(folder / JOURNAL, durable=True), room)
    journal = Journal(JournalWriter(connection))
    runner = HandRunner()
    async with kept_server(folder, runner, journal=journal, disk=FullDisk(room)) as engine:
        task = await life(engine, runner)
        if task is None:
            assert left_in(folder / "tasks") == [], "nothing of it is left"
        else:
            await engine.delete(task, DEFAULT_TENANT)
        assert not room.was_full or writes < WRITES - 1, "a life has more writes than that"
        killed = image(folder)

        room.free()
        again = await life(engine, runner)
        assert again is not None
        assert (await engine.view(again)).status is TaskStatus.SUCCESS
        await engine._upkeep.round(0.0)
    assert_sound(folder)
    assert_sound(killed)
    async with kept_server(folder, HandRunner()) as engine:
        kept = [view.task_id for view in await engine.list_tasks(DEFAULT_TENANT)]
        assert kept == [again], "what was deleted does not come back"
        assert left_in(folder / "tasks") == kept
    async with kept_server(killed, HandRunner()) as engine:
        found = {view.task_id for view in await engine.list_tasks(DEFAULT_TENANT)}
        assert found <= {task}
