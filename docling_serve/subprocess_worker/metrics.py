"""What isolation costs: counts and seconds, summed since the pool was made."""

from __future__ import annotations

from dataclasses import asdict, dataclass


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
    workers_stopped: int = 0

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

    def as_dict(self) -> dict[str, float]:
        """All figures by name."""
        return {**asdict(self), "avg_overhead_pct": self.avg_overhead_pct}
