from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from docling_serve.engines.local.journal import (
    IllegalMove,
    Journal,
    JournalUnusable,
    TaskRow,
)
from docling_serve.engines.local.journal.journal import connect
from docling_serve.engines.local.journal.schema import MIGRATIONS, VERSION
from docling_serve.engines.local.journal.writer import JournalWriter
from docling_serve.engines.local.states import TaskState
from docling_serve.errors import Failure
from docling_serve.jobs.spec import JobResult

FAILURE = Failure("capacity", "It was lost.", retryable=True, details={"reason": "lost"})
RESULT = JobResult(body="result.body", media_type="text/plain", processing_time=0.5)


def a_task(task_id: str = "one", **more: Any) -> TaskRow:
    return TaskRow(task_id, "acme", "convert", num_docs=1, created=1.0, **more)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Journal]:
    journal = Journal.open(folder / "journal.sqlite3", durable=True)
    try:
        yield journal
    finally:
        await journal.close()


async def test_a_task_is_there_again_after_the_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.accept(a_task(input_bytes=7, idempotency_key="k", fingerprint="f"))
    async with opened(tmp_path) as journal:
        assert await journal.tasks() == [
            a_task(input_bytes=7, idempotency_key="k", fingerprint="f")
        ]


async def test_the_whole_life_of_a_task(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.accept(a_task())
        await journal.started("one", at=2.0)
        await journal.requeued("one", counts=True)
        await journal.started("one", at=3.0)
        await journal.succeeded("one", RESULT, 9, at=4.0)
        await journal.fetched("one", at=5.0)
        await journal.fetched("one", at=6.0)
        (task,) = await journal.tasks()

    assert task == a_task(
        state=TaskState.SUCCESS,
        attempts=2,
        started=3.0,
        finished=4.0,
        fetched=5.0,
        result=RESULT,
        result_bytes=9,
    )


async def test_in_memory_a_piece_of_work_that_fails_leaves_nothing() -> None:
    journal = Journal.in_memory()
    await journal.accept(a_task())

    with pytest.raises(IllegalMove):
        await journal.requeued("one", counts=False)
    with pytest.raises(sqlite3.IntegrityError):
        await journal.accept(a_task())

    accepted = journal.started("one", at=2.0)
    assert accepted.done()
    assert await journal.tasks() == [a_task(state=TaskState.STARTED, attempts=1, started=2.0)]
    await journal.close()
    with pytest.raises(OSError, match="closed"):
        await journal.tasks()


async def test_an_attempt_that_does_not_count_leaves_no_trace(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.accept(a_task())
        await journal.started("one", at=2.0)
        await journal.requeued("one", counts=False)

        assert await journal.tasks() == [a_task()]


async def test_a_failure_is_kept_whole(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.accept(a_task())
        await journal.failed("one", FAILURE, at=2.0)
        (task,) = await journal.tasks()

    assert (task.state, task.failure, task.finished) == (TaskState.FAILURE, FAILURE, 2.0)


async def test_tasks_come_in_the_order_in_which_they_were_accepted(tmp_path: Path) -> None:
    names = [f"t{9 - number}" for number in range(9)]
    async with opened(tmp_path) as journal:
        await asyncio.gather(*(journal.accept(a_task(name)) for name in names))
        await journal.forget("t5")

        assert [task.task_id for task in await journal.tasks()] == [
            name for name in names if name != "t5"
        ]


@pytest.mark.parametrize("to", [TaskState.QUEUED, TaskState.STARTED, TaskState.SUCCESS])
async def test_a_task_ends_once(tmp_path: Path, to: TaskState) -> None:
    async with opened(tmp_path) as journal:
        await journal.accept(a_task())
        await journal.failed("one", FAILURE, at=2.0)
        before = await journal.tasks()
        with pytest.raises(IllegalMove):
            await journal.move("one", to)

        assert await journal.tasks() == before


async def test_one_refused_entry_does_not_harm_its_group(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        outcomes = await asyncio.gather(
            journal.accept(a_task("one")),
            journal.accept(a_task("one")),
            journal.accept(a_task("two", idempotency_key="k")),
            journal.accept(a_task("three", idempotency_key="k")),
            journal.accept(a_task("four")),
            return_exceptions=True,
        )
    first, again, second, same_key, last = outcomes
    assert (first, second, last) == (None, None, None)
    assert isinstance(again, sqlite3.IntegrityError)
    assert isinstance(same_key, sqlite3.IntegrityError)


async def test_deliveries_are_kept_until_they_have_arrived(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        first = await journal.add_delivery("one", {"url": "http://a"}, {"n": 1}, now=1.0)
        second = await journal.add_delivery("one", {"url": "http://a"}, {"n": 2}, now=2.0)
        await journal.postpone_delivery(first, due=30.0)
    async with opened(tmp_path) as journal:
        one, two = await journal.pending_deliveries()
        assert (one.delivery_id, one.attempts, one.due, one.created) == (first, 1, 30.0, 1.0)
        assert (two.target, two.body, two.attempts) == ({"url": "http://a"}, {"n": 2}, 0)
        await journal.delivered(first)
        await journal.delivered(second)
        assert await journal.pending_deliveries() == []


# ---- what can go wrong ---------------------------------------------------------------------------


async def test_a_full_disk_refuses_and_room_heals(tmp_path: Path) -> None:
    """SQLite's own limit on pages stands for the disk: it fails in the same way."""
    connection = connect(tmp_path / "journal.sqlite3", durable=True)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    journal = Journal(JournalWriter(connection))
    accepted: list[str] = []
    refused: list[int | None] = []
    while not refused and len(accepted) < 1000:
        try:
            await journal.accept(a_task(f"t{len(accepted)}", fingerprint="x" * 500))
            accepted.append(f"t{len(accepted)}")
        except OSError as exc:
            refused.append(exc.errno)
    assert refused == [errno.ENOSPC]

    await journal._do(lambda on: on.execute(f"PRAGMA max_page_count = {pages * 100}"))
    await journal.accept(a_task("after"))
    kept = [task.task_id for task in await journal.tasks()]
    assert kept == [*accepted, "after"]
    await journal.close()


@pytest.mark.parametrize("version", range(1, VERSION))
async def test_a_journal_of_an_earlier_version_is_brought_to_this_one(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "journal.sqlite3"
    earlier = sqlite3.connect(path, isolation_level=None)
    for statements in MIGRATIONS[:version]:
        for statement in statements:
            earlier.execute(statement)
    earlier.execute(f"PRAGMA user_version = {version}")
    earlier.execute(
        "INSERT INTO tasks (task_id, tenant, task_type, num_docs, created, input_bytes, attached,"
        " state, attempts, result_bytes) VALUES ('t', 'acme', 'convert', 1, 1.0, 0, 0, 'queued',"
        " 0, 0)"
    )
    earlier.close()

    journal = Journal.open(path, durable=True)
    assert await journal.tasks() == [a_task("t")]
    await journal.close()


def test_a_newer_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    connection = connect(path, durable=True)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()

    with pytest.raises(JournalUnusable, match="newer docling-serve"):
        connect(path, durable=True)


def test_what_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    path.write_bytes(b"not a database" * 100)

    with pytest.raises(JournalUnusable, match="cannot be used"):
        connect(path, durable=True)

    assert path.read_bytes().startswith(b"not a database")


def test_only_its_user_reads_it(tmp_path: Path) -> None:
    connection = connect(tmp_path / "journal.sqlite3", durable=True)
    connection.close()

    assert [path.stat().st_mode & 0o077 for path in tmp_path.iterdir()] == [0]


async def test_a_closed_journal_refuses(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        pass
    with pytest.raises(OSError, match="closed"):
        await journal.accept(a_task())
