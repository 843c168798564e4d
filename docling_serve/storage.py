"""The scratch folder: which process makes it, and which removes it.

A server whose tasks outlive it keeps a folder that its operator configured (:class:`KeptScratch`).
Any other process has a private one (:class:`Scratch`), below that folder or the system's temporary
folder, and removes it on exit. Either is locked while its process lives, so another process can
tell a folder in use from one left behind. Other contents of a configured folder are never touched.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import logging
import os
import shutil
import tempfile
import threading
import time
from functools import lru_cache
from pathlib import Path

from docling_serve.errors import DoclingServeError
from docling_serve.process.guardian import Guardian

_log = logging.getLogger(__name__)

_PREFIX = "docling-serve-"
_LOCK = "owner.lock"
_JOURNAL = "journal.sqlite3"
_TASKS = "tasks"
# Other entries of a configured folder may have any name, but hardly these.
_UPLOADS = "docling-serve.uploads"
_KEPT_RESULTS = "docling-serve.results"
_WORKERS = "docling-serve.workers"
_LOOK_AGAIN_S = 0.1
_LOCK_WAIT_S = 5.0


class Scratch:
    """The private scratch folder of this process.

    ``guardian`` removes it when this process cannot; without one it starts its own.
    """

    def __init__(self, parent: Path | None, guardian: Guardian | None = None) -> None:
        self._own_guardian = Guardian() if guardian is None else None
        base = parent or Path(tempfile.gettempdir())
        base.mkdir(parents=True, exist_ok=True)
        _sweep(base)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        self._lock = _hold(self.path)
        for watcher in filter(None, (guardian, self._own_guardian)):
            watcher.remove_folder(self.path)
        self.tasks.mkdir(mode=0o700)

    @property
    def tasks(self) -> Path:
        """Where the folders of tasks are made."""
        return self.path / _TASKS

    @property
    def workers(self) -> Path:
        """Where workers find their jobs; the next server has no use for it."""
        return self.path / _WORKERS

    def release(self) -> None:
        """Remove the folder and its contents."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        if self._own_guardian is not None:
            self._own_guardian.dismiss()


class FolderInUse(DoclingServeError):
    """Another server uses the folder; the text says which one and what to do."""


class KeptScratch:
    """The folder ``scratch_path`` of a server whose tasks outlive it: it is never removed.

    ``guardian`` shares the lock, so after a server was killed the folder is free only once its
    workers are gone, too. A new server waits for that, ``wait_s`` seconds at most.

    Raises:
        FolderInUse: another server uses it.
    """

    def __init__(self, path: Path, guardian: Guardian, wait_s: float = _LOCK_WAIT_S) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = _hold_or_wait(path, wait_s)
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        guardian.share(self._lock)
        _sweep(path)  # left below it by servers of other kinds
        self.tasks.mkdir(mode=0o700, exist_ok=True)

    @property
    def tasks(self) -> Path:
        """Where the folders of tasks are made."""
        return self.path / _TASKS

    @property
    def journal(self) -> Path:
        """Where the journal is, next to the folders of tasks."""
        return journal_in(self.path)

    @property
    def workers(self) -> Path:
        """Where workers find their jobs; the next server has no use for it."""
        return self.path / _WORKERS

    def release(self) -> None:
        """Release the folder to another server; its contents stay."""
        os.close(self._lock)


def journal_in(folder: Path) -> Path:
    """The journal of a server that uses ``folder``."""
    return folder / _JOURNAL


def uploads_in(folder: Path) -> Path:
    """Where files uploaded for a later request are kept."""
    return folder / _UPLOADS


def kept_results_in(folder: Path) -> Path:
    """Where results are kept for repeated requests."""
    return folder / _KEPT_RESULTS


def require_free(path: Path, wait_s: float = _LOCK_WAIT_S) -> None:
    """Check at startup whether a server could use ``path``.

    Raises:
        FolderInUse: another server uses it.
    """
    if (path / _LOCK).is_file():
        os.close(_hold_or_wait(path, wait_s))


@lru_cache(maxsize=1)
def get_scratch() -> Path:
    """A scratch folder for code outside the server, made at the first call, below ``scratch_path``
    if that is set. The caller removes what it puts there; an empty temporary folder is removed when
    the process exits."""
    from docling_serve.settings import docling_serve_settings  # noqa: PLC0415 - read when asked

    if docling_serve_settings.scratch_path is None:
        folder = Path(tempfile.mkdtemp(prefix="docling_"))
        atexit.register(_remove_if_empty, folder)
        return folder
    docling_serve_settings.scratch_path.mkdir(parents=True, exist_ok=True)
    return docling_serve_settings.scratch_path


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _hold(folder: Path) -> int:
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _hold_or_wait(folder: Path, wait_s: float) -> int:
    deadline = time.monotonic() + wait_s
    pause = threading.Event()
    while True:
        try:
            return _hold(folder)
        except OSError as exc:
            if exc.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            owner = (folder / _LOCK).read_text(encoding="ascii", errors="replace").strip()
            if time.monotonic() > deadline:
                raise FolderInUse(
                    f"scratch_path {folder} is in use by another docling-serve"
                    f" (process {owner or 'unknown'}). Two servers cannot share one folder:"
                    " give each a scratch_path of its own."
                ) from None
        pause.wait(_LOOK_AGAIN_S)


def _sweep(base: Path) -> None:
    """Remove the folders whose server is gone: their lock is free."""
    for folder in base.glob(f"{_PREFIX}*"):
        if not (folder / _LOCK).is_file():
            continue
        try:
            descriptor = _hold(folder)
        except OSError:
            continue
        _log.info("removing the scratch folder %s of a server that has exited", folder.name)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)
