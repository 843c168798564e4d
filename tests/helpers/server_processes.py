"""Look at the processes of a server from outside.

Every server of the tests has a mark in its environment. What it starts inherits the mark, so a
process is found even when its parents are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

MARK = "TEST_SERVER_MARK"
_GONE = (psutil.NoSuchProcess, psutil.AccessDenied)


def marked(mark: str) -> list[psutil.Process]:
    """Every live process that descends from the server with ``mark``, itself included."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and not is_zombie(process):
                found.append(process)
        except _GONE:
            continue
    return found


def working_in(folder: Path) -> list[psutil.Process]:
    """Every live process whose working folder is ``folder``. Workers blank their environment, so
    their mark cannot be read; what a server started inherits its working folder too."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and not is_zombie(process):
                found.append(process)
        except _GONE:
            continue
    return found


def tree(pid: int) -> list[psutil.Process]:
    """All live descendants of ``pid``; zombies that wait to be reaped are not alive."""
    try:
        descendants = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [process for process in descendants if not is_zombie(process)]


def workers(pid: int) -> list[psutil.Process]:
    """The worker processes of the server ``pid``, under either start method."""
    return list(_workers(tree(pid)))


def _workers(processes: Iterable[psutil.Process]) -> Iterator[psutil.Process]:
    for process in processes:
        try:
            command = " ".join(process.cmdline())
            parent = process.parent()
            forked = parent is not None and "forkserver" in " ".join(parent.cmdline())
        except _GONE:
            continue
        # A forked worker has the command line of the fork server, which is its parent.
        if "spawn_main" in command or forked:
            yield process


def is_zombie(process: psutil.Process) -> bool:
    """Whether the process has ended and only its exit code is left."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def alive(pid: int) -> bool:
    """Whether ``pid`` runs; a zombie does not."""
    try:
        return not is_zombie(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def maps(pid: int) -> str:
    """The files and libraries mapped into ``pid``."""
    return Path(f"/proc/{pid}/maps").read_text(errors="replace")


def describe(processes: Iterable[psutil.Process]) -> list[str]:
    """One line each, for messages."""
    lines = []
    for process in processes:
        try:
            command = " ".join(process.cmdline())[:120]
            lines.append(f"{process.pid} {process.status()} {command}")
        except _GONE:
            continue
    return lines
