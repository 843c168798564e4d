"""Write files so that they survive a power cut.

All files of the engine are written through this module, so that a test can simulate a full disk.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_COPY_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Written:
    """The result of a copy: the number of bytes, and their SHA-256 in hexadecimal."""

    size: int
    digest: str


class Disk:
    """Writes files and their names; both are on the disk itself when a method returns.

    Without ``sync`` they may still be in the page cache: for folders that do not outlive the
    server anyway. Everything blocks, and raises ``OSError`` when the disk is full or fails.
    """

    def __init__(self, *, sync: bool) -> None:
        self._sync = sync

    @property
    def syncs(self) -> bool:
        """Whether writes wait for the disk."""
        return self._sync

    def copy(self, source: BinaryIO, path: Path) -> Written:
        """Write the rest of ``source`` into the new file ``path``; memory stays flat."""
        digest = hashlib.sha256()
        size = 0
        with self._create(path) as target:
            while block := source.read(_COPY_BYTES):
                self.write(target, block)
                digest.update(block)
                size += len(block)
            self._flush(target)
        return Written(size, digest.hexdigest())

    def write_text(self, path: Path, text: str) -> None:
        """Write ``text`` to ``path``, atomically."""
        aside = path.with_name(f"{path.name}.new")
        aside.unlink(missing_ok=True)
        with self._create(aside) as target:
            self.write(target, text.encode())
            self._flush(target)
        aside.replace(path)
        self.sync_folder(path.parent)

    def write(self, target: BinaryIO, block: bytes) -> None:
        """One write."""
        target.write(block)

    def sync_file(self, path: Path) -> None:
        """Flush a file written elsewhere to the disk, name included."""
        if self._sync:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Flush the names in ``folder`` to the disk."""
        self.sync_file(folder)

    @staticmethod
    def _create(path: Path) -> BinaryIO:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        return os.fdopen(descriptor, "wb")

    def _flush(self, target: BinaryIO) -> None:
        target.flush()
        if self._sync:
            os.fsync(target.fileno())
