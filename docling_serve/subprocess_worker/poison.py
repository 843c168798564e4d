"""Requests that took two workers with them are not tried a third time.

A request is known by its documents and options, so that the same document sent again is refused
at once instead of costing two more workers.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from docling_serve.errors import Failure
from docling_serve.jobs import StagedFile, TaskFolder

REMEMBERED_S = 3600.0

REFUSED = Failure(
    "policy",
    "The same request took its worker process down repeatedly; it is not tried again for now.",
    details={"reason": "poison"},
)


class PoisonList:
    """Fingerprints of such requests, each forgotten after a while. Methods that read documents
    block: call them from a thread."""

    def __init__(
        self, remember_s: float = REMEMBERED_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._remember_s = remember_s
        self._clock = clock
        self._until: dict[str, float] = {}

    def __bool__(self) -> bool:
        now = self._clock()
        self._until = {key: until for key, until in self._until.items() if until > now}
        return bool(self._until)

    def add(self, folder: TaskFolder) -> None:
        """Remember the request staged in ``folder``."""
        self._until[request_hash(folder)] = self._clock() + self._remember_s

    def matches(self, folder: TaskFolder) -> bool:
        """Whether the request staged in ``folder`` is one of those."""
        return bool(self) and request_hash(folder) in self._until


def request_hash(folder: TaskFolder) -> str:
    """A hash over everything that decides what a worker does with the task in ``folder``.

    Raises:
        OSError: the folder or a document is gone.
    """
    spec = folder.read_job()
    digest = hashlib.sha256()
    told = spec.model_dump_json(
        include={"options", "task_type", "sources"},
        exclude={"sources": {"__all__": {"path"}}},  # a slice of it has it elsewhere
    )
    digest.update(told.encode())
    for source in spec.sources:
        if isinstance(source, StagedFile):
            with (folder.root / source.path).open("rb") as document:
                while block := document.read(1024 * 1024):
                    digest.update(block)
    return digest.hexdigest()
