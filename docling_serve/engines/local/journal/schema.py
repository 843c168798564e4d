"""The journal's tables, by version; ``PRAGMA user_version`` says which one a file has."""

from __future__ import annotations

import sqlite3

from docling_serve.engines.local.journal.records import JournalUnusable

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE tasks (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            task_id TEXT NOT NULL UNIQUE,
            tenant TEXT NOT NULL,
            task_type TEXT NOT NULL,
            num_docs INTEGER NOT NULL,
            created REAL NOT NULL,
            input_bytes INTEGER NOT NULL,
            attached INTEGER NOT NULL,
            idempotency_key TEXT,
            fingerprint TEXT,
            state TEXT NOT NULL CHECK (state IN ('queued', 'started', 'success', 'failure')),
            attempts INTEGER NOT NULL,
            started REAL,
            finished REAL,
            fetched REAL,
            result TEXT,
            result_bytes INTEGER NOT NULL,
            failure TEXT
        )
        """,
        """
        CREATE UNIQUE INDEX tasks_by_key ON tasks (tenant, idempotency_key)
        WHERE idempotency_key IS NOT NULL
        """,
        """
        CREATE TABLE deliveries (
            delivery_id INTEGER PRIMARY KEY AUTOINCREMENT,
            task_id TEXT NOT NULL,
            target TEXT NOT NULL,
            body TEXT NOT NULL,
            due REAL NOT NULL,
            created REAL NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0
        )
        """,
    ),
    (
        "ALTER TABLE tasks ADD COLUMN light INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE tasks ADD COLUMN untold TEXT",
    ),
    ("ALTER TABLE tasks RENAME COLUMN untold TO pending_callbacks",),
    ("ALTER TABLE tasks ADD COLUMN names TEXT NOT NULL DEFAULT '[]'",),
)
"""``MIGRATIONS[n]`` brings a journal of version ``n`` to version ``n + 1``. Never edit a
released entry; a change of the tables is a new entry."""

VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection) -> None:
    """Migrate the tables to this version, in one transaction.

    Raises:
        JournalUnusable: it was written by a newer server.
    """
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > VERSION:
        raise JournalUnusable(
            f"the journal was written by a newer docling-serve (its schema is version {found}, "
            f"this server knows up to {VERSION}). Use that version again, or another scratch_path."
        )
    if found == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in MIGRATIONS[found:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
