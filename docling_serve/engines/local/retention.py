"""Which finished tasks have to go: by age, and by the room that their results take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class FinishedTask:
    """What the rules look at. Times are seconds of the epoch."""

    task_id: str
    finished: float
    result_bytes: int
    fetched: bool


@dataclass(frozen=True)
class RetentionRules:
    """0 means no limit. ``max_age_s`` counts from the end of a task, read or not."""

    max_age_s: float = 0.0
    max_bytes: int = 0

    def to_remove(self, tasks: Iterable[FinishedTask], now: float) -> list[FinishedTask]:
        """The tasks that are too old; then, until the rest fits, results that a client has read,
        then those nobody has, the oldest first."""
        oldest_first = sorted(tasks, key=lambda task: task.finished)
        oldest_kept = now - self.max_age_s if self.max_age_s else float("-inf")
        gone = [task for task in oldest_first if task.finished < oldest_kept]
        kept = oldest_first[len(gone) :]
        excess = sum(task.result_bytes for task in kept) - self.max_bytes
        if not self.max_bytes or excess <= 0:
            return gone
        for task in sorted(kept, key=lambda task: (not task.fetched, task.finished)):
            if excess <= 0:
                break
            if task.result_bytes:
                gone.append(task)
                excess -= task.result_bytes
        return gone
