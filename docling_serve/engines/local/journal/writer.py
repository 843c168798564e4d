"""Journal writers: a thread that commits in groups, or immediate writes in memory.

The thread owns the connection of a file. While one group is on its way to the disk, the next one
gathers. So all callers in a group share the price of a commit, and no call waits longer than for
two.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

_log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

_GROUP = 512


@dataclass(frozen=True)
class _Entry:
    work: Work
    outcome: Future[Any]


class JournalWriter:
    """Runs pieces of work on ``connection`` in the order in which they are submitted.

    Each piece succeeds or fails alone; a group whose commit fails, fails as a whole and leaves
    nothing behind. Thread-safe.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._entries: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run and commit ``work``; the future is done once it is on the disk.

        The future raises what ``work`` raises, or ``OSError`` when the disk is full or fails.
        """
        outcome: Future[T] = Future()
        if self._closed:
            outcome.set_exception(OSError(errno.ESHUTDOWN, "the journal is closed"))
        else:
            self._entries.put(_Entry(work, outcome))
        return asyncio.wrap_future(outcome)

    def close(self) -> None:
        """Commit pending work, then give up the connection. Blocks."""
        self._closed = True
        self._entries.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            group, going = self._gather()
            if group:
                self._commit(group)
        self._connection.close()

    def _gather(self) -> tuple[list[_Entry], bool]:
        """The pending entries, at least one; and whether there will be more."""
        group: list[_Entry] = []
        entry = self._entries.get()
        while True:
            if entry is None:
                return group, False
            if entry.outcome.set_running_or_notify_cancel():
                group.append(entry)
            if len(group) == _GROUP:
                return group, True
            try:
                entry = self._entries.get_nowait()
            except queue.Empty:
                return group, True

    def _commit(self, group: list[_Entry]) -> None:
        try:
            answers = self._write(group)
        except Exception as exc:  # noqa: BLE001 - the waiting caller must get the error
            failed = as_os_error(exc)
            _log.error("the journal could not be written: %s", failed)
            for entry in group:
                entry.outcome.set_exception(failed)
            return
        for entry, (value, error) in zip(group, answers, strict=True):
            if error is None:
                entry.outcome.set_result(value)
            else:
                entry.outcome.set_exception(error)

    def _write(self, group: list[_Entry]) -> list[tuple[Any, Exception | None]]:
        answers: list[tuple[Any, Exception | None]] = []
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for entry in group:
                connection.execute("SAVEPOINT entry")
                try:
                    answers.append((entry.work(connection), None))
                except Exception as exc:
                    if not connection.in_transaction:  # a full disk rolled everything back
                        raise
                    answers.append((None, as_os_error(exc)))
                    connection.execute("ROLLBACK TO entry")
                connection.execute("RELEASE entry")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return answers


class MemoryWriter:
    """Runs each piece of work immediately, on the event loop: a database in memory takes
    microseconds, a thread a tenth of a millisecond."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._closed = False

    def do(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """As :meth:`JournalWriter.do`; the future is done."""
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._closed:
            outcome.set_exception(OSError(errno.ESHUTDOWN, "the journal is closed"))
            return outcome
        self._connection.execute("BEGIN")
        try:
            value = work(self._connection)
        except Exception as exc:  # noqa: BLE001 - the waiting caller must get the error
            self._connection.execute("ROLLBACK")
            outcome.set_exception(as_os_error(exc))
        else:
            self._connection.execute("COMMIT")
            outcome.set_result(value)
        return outcome

    def close(self) -> None:
        """Discard the database and its content."""
        self._closed = True
        self._connection.close()


def as_os_error(exc: Exception) -> Exception:
    """Map SQLite's error for a full or failing disk to ``OSError``; return any other unchanged."""
    text = str(exc)
    if isinstance(exc, sqlite3.OperationalError) and "disk is full" in text:
        return OSError(errno.ENOSPC, "no room for the journal")
    if isinstance(exc, sqlite3.OperationalError):
        return OSError(errno.EIO, f"the journal cannot be written: {text}")
    return exc
