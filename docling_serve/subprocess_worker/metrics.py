"""What isolation costs and does: counts and seconds, summed since the pool was made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class SubprocessMetrics:
    """Sums over all finished tasks.

    ``task_seconds`` runs from hand-over to answer; ``overhead_seconds`` is the part of it that was
    not conversion: waiting for a process to start and import, hand-over, and the way back.
    """

    tasks: int = 0
    task_seconds: float = 0.0
    overhead_seconds: float = 0.0
    workers_started: int = 0
    #: How often workers entered each state, by its name.
    moves: Counter[str] = field(default_factory=Counter)
    #: How many workers ended, by reason.
    stops: Counter[str] = field(default_factory=Counter)
    #: How many workers were lost in mid-job, by signal or exit code.
    losses: Counter[str] = field(default_factory=Counter)

    @property
    def avg_overhead_pct(self) -> float:
        """Overhead in percent of the task's own time, 0 before the first task."""
        work = self.task_seconds - self.overhead_seconds
        return 100.0 * self.overhead_seconds / work if work > 0 else 0.0

    def record(self, total_s: float, work_s: float) -> None:
        """Count one finished task that took ``total_s``, of which ``work_s`` was conversion."""
        self.tasks += 1
        self.task_seconds += total_s
        self.overhead_seconds += max(0.0, total_s - work_s)

    def count_move(self, state: str) -> None:
        """A worker entered ``state``."""
        self.moves[state] += 1

    def count_stop(self, reason: str) -> None:
        """A worker has ended for ``reason``."""
        self.stops[reason] += 1

    def count_loss(self, exit_text: str) -> None:
        """A worker ended in mid-job with ``exit_text``."""
        self.losses[exit_text] += 1

    def as_dict(self) -> dict[str, Any]:
        """All figures by name."""
        return {
            "tasks": self.tasks,
            "task_seconds": self.task_seconds,
            "overhead_seconds": self.overhead_seconds,
            "avg_overhead_pct": self.avg_overhead_pct,
            "workers_started": self.workers_started,
            "moves": dict(self.moves),
            "stops": dict(self.stops),
            "losses": dict(self.losses),
        }
