"""The scratch folder: who made it, who removes it.

Each server process has one private folder of its own, below ``scratch_path`` or the system's
temporary folder. It is locked for as long as the process lives, so another process can tell a
folder that is in use from one that was left behind; a configured ``scratch_path`` itself, and
whatever else lies in it, is never removed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from docling_serve.guardian import Guardian

_log = logging.getLogger(__name__)

_PREFIX = "docling-serve-"
_LOCK = "owner.lock"


class Scratch:
    """The private scratch folder of this process.

    ``guardian`` removes it when nobody else can; without one it has its own.
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

    def remove(self) -> None:
        """Remove the folder and all in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        if self._own_guardian is not None:
            self._own_guardian.dismiss()


@lru_cache(maxsize=1)
def get_scratch() -> Path:
    """A scratch folder for code outside the server, made at the first call; below
    ``scratch_path`` when that is set. The caller removes what it puts there."""
    from docling_serve.settings import docling_serve_settings  # noqa: PLC0415 - read when asked

    if docling_serve_settings.scratch_path is None:
        return Path(tempfile.mkdtemp(prefix="docling_"))
    docling_serve_settings.scratch_path.mkdir(parents=True, exist_ok=True)
    return docling_serve_settings.scratch_path


def _hold(folder: Path) -> int:
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sweep(base: Path) -> None:
    """Remove folders whose server is gone: their lock can be had."""
    for folder in base.glob(f"{_PREFIX}*"):
        if not (folder / _LOCK).is_file():
            continue
        try:
            descriptor = _hold(folder)
        except OSError:
            continue
        _log.info("removing the scratch folder %s of a server that is gone", folder.name)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)
