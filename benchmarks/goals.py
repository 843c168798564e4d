"""The goals of this build on a machine with two processors, and whether a run meets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import sub, truediv

from benchmarks.measures import default
from benchmarks.measures import isolation as ways
from benchmarks.plan import CLIENTS, PAUSES
from benchmarks.results import Results
from benchmarks.rows import P99, SECTIONS, Row, alone, line_of, spaced
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
    """A goal and the value of the run; ``value`` is None where it was not measured."""

    goal: Goal
    value: float | None

    @property
    def held(self) -> bool | None:
        """Whether the goal is met; None where it is unknown."""
        if self.value is None:
            return None
        goal = self.goal
        return self.value >= goal.limit if goal.at_least else self.value <= goal.limit


def _row(measure: str, subject: str = OURS) -> Row:
    """The first row of a measure: the median row where it has several."""
    rows = (row for section in SECTIONS for row in section.rows)
    return next(row for row in rows if (row.measure, row.subject) == (measure, subject))


def _p99(measure: str) -> Row:
    return replace(_row(measure), figure=P99)


def _median(row: Row) -> Value:
    def value(results: Results) -> float | None:
        line = line_of(row, results)
        return line.subject.median if line else None

    return value


def _ratio(row: Row, percent: bool = False) -> Value:
    def value(results: Results) -> float | None:
        line = line_of(row, results)
        if line is None or line.ratio is None:
            return None
        return 100 * (line.ratio.median - 1) if percent else line.ratio.median

    return value


def _scan(way: str) -> Value:
    """Percent by which a scan takes longer this way than in the server process."""
    return _ratio(_row("isolation.scan_s", way), percent=True)


def _highest(*values: Value) -> Value:
    def value(results: Results) -> float | None:
        measured = [one for value in values if (one := value(results)) is not None]
        return max(measured, default=None)

    return value


def _combined(first: Value, second: Value, how: Callable[[float, float], float]) -> Value:
    def value(results: Results) -> float | None:
        one, other = first(results), second(results)
        return None if one is None or other is None else how(one, other)

    return value


def _after_pauses(kind: str) -> Value:
    """The highest of all pauses, as a multiple of upstream's."""
    return _highest(*(_ratio(alone(kind, pause)) for pause in PAUSES))


def _growth_beyond_noise(results: Results) -> float | None:
    """MB per task that the noise of the curve does not explain."""
    slopes = results.pooled("memory.tree_slope_mb", OURS)
    margins = results.pooled("memory.tree_slope_margin_mb", OURS)
    return max(0.0, slopes[0] - margins[0]) if slopes and margins else None


def _gpu_kept(results: Results) -> float | None:
    """MB of all devices that were not freed. By device: in many containers the driver lists its
    processes by other numbers, and a server that it does not list may hold memory."""
    before = results.pooled("memory.before_gpu_mb", OURS)
    rest = results.pooled("memory.rest_gpu_mb", OURS)
    return max(0.0, rest[0] - before[0]) if before and rest else None


_PAGE_ALONE = _highest(*(_median(alone(default.PAGE, pause)) for pause in PAUSES))
_AT_REST_BEFORE, _AT_REST_AFTER = _median(_row("idle.rss_mb")), _median(_row("after.rss_mb"))

GOALS: tuple[Goal, ...] = (
    Goal("Markdown after any pause, of upstream's", _after_pauses(default.MARKDOWN), 0.05, "x"),
    Goal("DOCX after any pause, of upstream's", _after_pauses(default.DOCX), 0.06, "x"),
    Goal("Scanned page after any pause, of upstream's", _after_pauses(default.PAGE), 1.0, "x"),
    Goal(
        "Scanned page after any pause, over models kept loaded",
        _combined(_PAGE_ALONE, _median(_row("page.s")), sub),
        0.6,
        "s",
    ),
    Goal(
        "Requests every 2 s, slowest of the median",
        _highest(*(_median(spaced(kind)) for kind in default.KINDS)),
        1.5,
        "x",
    ),
    Goal("Memory at rest", _highest(_AT_REST_BEFORE, _AT_REST_AFTER), 420, "MB"),
    Goal(
        "Memory at rest after the last request, of that before",
        _combined(_AT_REST_AFTER, _AT_REST_BEFORE, truediv),
        1.05,
        "x",
    ),
    Goal(
        "Memory at rest, nothing kept ready",
        _highest(_median(_row("off.before_mb")), _median(_row("off.after_mb"))),
        190,
        "MB",
    ),
    Goal(
        "Start by spawn without torch, of one with torch",
        _ratio(_row("spawn.s", default.LEAN)),
        0.35,
        "x",
    ),
    Goal("Small task, processor time of the server", _median(_row("cpu.alone_ms")), 6, "ms"),
    Goal(
        f"Small tasks done, {CLIENTS} clients",
        _median(_row("clients.done_per_s")),
        100,
        "1/s",
        at_least=True,
    ),
    Goal("Start to ready, of upstream's", _ratio(_row("start.ready_s")), 0.2, "x"),
    Goal("Memory growth beyond noise, per task", _growth_beyond_noise, 0, "MB"),
    Goal("GPU memory kept after the tasks", _gpu_kept, 0, "MB"),
    Goal("Markdown p50, loaded, of upstream's", _ratio(_row("small.ms")), 0.02, "x"),
    Goal("Scanned page, answer after the work", _median(_row("page.rest_ms")), 30, "ms"),
    Goal(
        "Pages/s with two workers, of upstream's",
        _ratio(_row("throughput.pages_per_s@2")),
        1.2,
        "x",
        at_least=True,
    ),
    Goal("/health p99, two scans in work", _median(_p99("health.busy_ms")), 10, "ms"),
    Goal("Warm worker, over in-process", _scan(ways.WARM), 2, "%"),
    Goal("Fresh process by forkserver, 10 pages", _scan(ways.FORKSERVER), 5, "%"),
    Goal("Fresh process by spawn + standby", _scan(ways.STANDBY), 10, "%"),
)


def verdicts(results: Results) -> list[Verdict]:
    """Every goal with the value of the run."""
    return [Verdict(goal, goal.value(results)) for goal in GOALS]
