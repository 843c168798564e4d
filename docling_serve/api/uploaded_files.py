"""Files that clients upload first and convert later, each with a request of its own.

They are bounded like the documents of waiting tasks: in bytes and in age, and each is visible to
its tenant only. They are in the scratch folder of this process and are removed with it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from docling_serve.errors import QueueFull
from docling_serve.jobs.writing import finish_in_thread
from docling_serve.settings import DoclingServeSettings

_BLOCK_BYTES = 4096
_RETRY_AFTER_S = 60


class NoSuchFile(Exception):
    """The tenant has no such file, or no longer has it."""


@dataclass(frozen=True)
class UploadedFile:
    """One file. ``created`` and ``expires`` are seconds since 1970; ``expires`` is None where files
    have no age limit."""

    file_id: str
    tenant: str
    name: str
    media_type: str
    size: int
    created: float
    expires: float | None
    path: Path


class UploadedFiles:
    """The files in ``folder``, which belongs to this object alone.

    ``max_bytes`` bounds all files together, each counted in blocks of 4 KiB; a file is removed
    ``max_age_s`` after its upload. 0 means no limit.
    """

    def __init__(self, folder: Path, max_bytes: int, max_age_s: float) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._files: dict[str, UploadedFile] = {}
        self._ends: dict[str, asyncio.TimerHandle] = {}
        self._bytes = 0

    @classmethod
    def of(cls, settings: DoclingServeSettings, folder: Path) -> UploadedFiles:
        """The files of a server; empties a folder that a killed server left. Blocks."""
        shutil.rmtree(folder, ignore_errors=True)
        return cls(folder, settings.eng_loc_max_queued_bytes, settings.eng_loc_max_queue_age)

    async def add(self, tenant: str, name: str, media_type: str, file: BinaryIO) -> UploadedFile:
        """Keep a copy of ``file``.

        Raises:
            QueueFull: there is no room for it.
            OSError: it could not be written.
        """
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if self._max_bytes and self._bytes + _room(size) > self._max_bytes:
            raise QueueFull(
                f"Uploaded files take {self._bytes} of {self._max_bytes} bytes"
                " (eng_loc_max_queued_bytes). Delete some, or try again later.",
                _RETRY_AFTER_S,
            )
        file_id, now = str(uuid.uuid4()), time.time()
        expires = now + self._max_age_s if self._max_age_s else None
        path = self._folder / file_id
        kept = UploadedFile(file_id, tenant, name, media_type, size, now, expires, path)
        self._bytes += _room(size)
        try:
            await finish_in_thread(_write, file, path)
        except BaseException:
            self._bytes -= _room(size)
            path.unlink(missing_ok=True)
            raise
        self._files[file_id] = kept
        if self._max_age_s:
            loop = asyncio.get_running_loop()
            self._ends[file_id] = loop.call_later(self._max_age_s, self._drop, kept)
        return kept

    def find(self, tenant: str, file_id: str) -> UploadedFile:
        """The file of this id.

        Raises:
            NoSuchFile: the tenant has none.
        """
        kept = self._files.get(file_id)
        if kept is None or kept.tenant != tenant:
            raise NoSuchFile(file_id)
        return kept

    def remove(self, tenant: str, file_id: str) -> None:
        """Remove the file of this id.

        Raises:
            NoSuchFile: the tenant has none.
        """
        self._drop(self.find(tenant, file_id))

    def close(self) -> None:
        """Remove all files, and the folder."""
        for kept in list(self._files.values()):
            self._drop(kept)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _drop(self, kept: UploadedFile) -> None:
        del self._files[kept.file_id]
        self._bytes -= _room(kept.size)
        if (end := self._ends.pop(kept.file_id, None)) is not None:
            end.cancel()
        kept.path.unlink(missing_ok=True)


def _room(size: int) -> int:
    """The disk space of a file, so that empty ones count too."""
    return max(1, -(-size // _BLOCK_BYTES)) * _BLOCK_BYTES


def _write(file: BinaryIO, path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        shutil.copyfileobj(file, target, 1024 * 1024)
