"""An engine on a folder that is kept, and what a killed server leaves of it."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from docling_serve.engines.local.disk import Disk
from docling_serve.engines.local.engine import LocalEngine
from docling_serve.engines.local.journal import Journal
from tests.unit.engines.hand_runner import opened

JOURNAL = "journal.sqlite3"


@contextlib.asynccontextmanager
async def kept_server(
    folder: Path, runner: Any, *, journal: Journal | None = None, **options: Any
) -> AsyncIterator[LocalEngine]:
    """An engine that takes over what is in ``folder``, and leaves there what it does not end."""
    tasks = folder / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    journal = journal or Journal.open(folder / JOURNAL, durable=True)
    kept = {"keep": True, "max_attempts": 3, "disk": Disk(sync=True), **options}
    try:
        async with opened(tasks, runner, journal=journal, **kept) as engine:
            yield engine
    finally:
        await journal.close()


def image(folder: Path) -> Path:
    """The folder as it is at this moment: what a server that is killed now leaves behind."""
    number = sum(1 for _ in folder.parent.glob(f"{folder.name}-killed-*"))
    copy = folder.parent / f"{folder.name}-killed-{number}"
    shutil.copytree(folder, copy, ignore_dangling_symlinks=True)
    return copy


def assert_sound(folder: Path) -> None:
    """The journal in ``folder`` passes SQLite's own check."""
    with contextlib.closing(sqlite3.connect(folder / JOURNAL)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
