"""What this build promises on a machine with two processors, and whether a run holds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.measures import isolation as ways
from benchmarks.results import Results
from benchmarks.rows import ROWS, Row, line_of
from benchmarks.servers import OURS

Value = Callable[[Results], "float | None"]


@dataclass(frozen=True)
class Goal:
    """``value`` of a run must not exceed ``limit`` (or not fall below it with ``at_least``)."""

    text: str
    value: Value
    limit: float
    unit: str = ""
    at_least: bool = False


@dataclass(frozen=True)
class Verdict:
    """A goal and what the run has; ``value`` is None where it was not measured."""

    goal: Goal
    value: float | None

    @property
    def held(self) -> bool | None:
        """Whether the goal is reached; None where nobody knows."""
        if self.value is None:
            return None
        goal = self.goal
        return self.value >= goal.limit if goal.at_least else self.value <= goal.limit


def _row(title: str) -> Row:
    return next(row for row in ROWS if row.title == title)


def _median(title: str) -> Value:
    row = _row(title)

    def value(results: Results) -> float | None:
        line = line_of(row, results)
        return line.subject.median if line else None

    return value


def _ratio(title: str, percent: bool = False) -> Value:
    row = _row(title)

    def value(results: Results) -> float | None:
        line = line_of(row, results)
        if line is None or line.ratio is None:
            return None
        return 100 * (line.ratio.median - 1) if percent else line.ratio.median

    return value


def _growth_beyond_noise(results: Results) -> float | None:
    """MB per task that the noise of the curve does not explain."""
    slopes = results.pooled("memory.tree_slope_mb", OURS)
    margins = results.pooled("memory.tree_slope_margin_mb", OURS)
    return max(0.0, slopes[0] - margins[0]) if slopes and margins else None


def _gpu_kept(results: Results) -> float | None:
    """MB of all devices that did not come back. By device: in many containers the driver lists
    its processes by other numbers, and a server that it does not list may hold memory."""
    before = results.pooled("memory.before_gpu_mb", OURS)
    rest = results.pooled("memory.rest_gpu_mb", OURS)
    return max(0.0, rest[0] - before[0]) if before and rest else None


GOALS: tuple[Goal, ...] = (
    Goal("Start to ready, of upstream's", _ratio("Start to ready"), 0.25, "x"),
    Goal("Memory at rest, no standby", _median("Memory at rest, all processes"), 250, "MB"),
    Goal("Markdown p50, loaded, of upstream's", _ratio("Markdown, synchronous, p50"), 0.02, "x"),
    Goal("Scanned page, answer after the work", _median("  of it not conversion"), 30, "ms"),
    Goal("Warm worker, over in-process", _ratio(f"Scan: {ways.WARM}", True), 2, "%"),
    Goal("Fresh process by forkserver, 10 pages", _ratio(f"Scan: {ways.FORKSERVER}", True), 5, "%"),
    Goal("Fresh process by spawn + standby", _ratio(f"Scan: {ways.STANDBY}", True), 10, "%"),
    Goal(
        "Pages/s with two workers, of upstream's",
        _ratio("Pages/s, 2 documents in work"),
        1.2,
        "x",
        at_least=True,
    ),
    Goal("Memory growth beyond noise, per task", _growth_beyond_noise, 0, "MB"),
    Goal("GPU memory kept after the tasks", _gpu_kept, 0, "MB"),
    Goal("/health p99, two scans in work", _median("/health, two scans in work, p99"), 10, "ms"),
)


def verdicts(results: Results) -> list[Verdict]:
    """Every goal with what the run has for it."""
    return [Verdict(goal, goal.value(results)) for goal in GOALS]
