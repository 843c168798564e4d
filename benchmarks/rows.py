"""The lines of the report: which figure of which server is compared with which other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks import stages
from benchmarks.measures import default
from benchmarks.measures import isolation as ways
from benchmarks.plan import CLIENTS, CONCURRENCIES, PAUSES
from benchmarks.results import Results
from benchmarks.servers import OURS, UPSTREAM
from benchmarks.statistics import Spread, quantile, ratios, spread

Figure = Callable[[Sequence[float]], float]
MEDIAN: Figure = partial(quantile, share=0.5)
P99: Figure = partial(quantile, share=0.99)


@dataclass(frozen=True)
class Row:
    """One line. ``figure`` makes one value of a round's values; rounds are pairs.

    ``compared`` is False for what may be zero or negative, where a ratio means nothing.
    """

    title: str
    measure: str
    unit: str
    figure: Figure = MEDIAN
    subject: str = OURS
    against: str = UPSTREAM
    compared: bool = True


@dataclass(frozen=True)
class Line:
    """A row with its figures; ``ratio`` is subject / against, from pairs of rounds."""

    row: Row
    subject: Spread
    against: Spread | None
    ratio: Spread | None


@dataclass(frozen=True)
class Section:
    """Rows under one title, most of them with upstream in a column of its own."""

    title: str
    rows: tuple[Row, ...]
    beside_upstream: bool = True


def slowest_of_median(values: Sequence[float]) -> float:
    """The largest value as a multiple of the median."""
    return max(values) / MEDIAN(values)


def _sides(measure: str, title: str, unit: str) -> tuple[Row, Row]:
    return Row(f"{title}, p50", measure, unit), Row(f"{title}, p99", measure, unit, P99)


def _ways(measure: str, title: str, unit: str, subjects: Sequence[str], against: str) -> list[Row]:
    return [Row(f"{title}: {s}", measure, unit, subject=s, against=against) for s in subjects]


_CALLED = {default.MARKDOWN: "Markdown", default.DOCX: "DOCX", default.PAGE: "Scanned page"}


def alone(kind: str, pause: int) -> Row:
    """The first request after a pause of this many seconds."""
    title = f"{_CALLED[kind]} after a pause of {pause} s"
    return Row(title, f"alone.{kind}_s@{pause}", "s")


def spaced(kind: str) -> Row:
    """The slowest answer of evenly spaced requests, as a multiple of their median."""
    title = f"{_CALLED[kind]} every 2 s, slowest of its median"
    return Row(title, f"spaced.{kind}_s", "x", slowest_of_median, compared=False)


_DEFAULT: tuple[Row, ...] = (
    Row("Start to ready", "start.ready_s", "s"),
    *(
        row
        for kind in default.KINDS
        for pause in PAUSES
        for row in (
            alone(kind, pause),
            Row("  and again at once", f"again.{kind}_s@{pause}", "s"),
        )
    ),
    *map(spaced, default.KINDS),
    Row("Memory at rest, all processes", "idle.rss_mb", "MB"),
    Row("Memory at rest after the last request", "after.rss_mb", "MB"),
    Row("  shared pages counted once (PSS)", "idle.pss_mb", "MB"),
    Row("  the same, after the last request", "after.pss_mb", "MB"),
    Row("  with nothing kept ready", "off.before_mb", "MB", against=""),
    Row("  the same, after the last request", "off.after_mb", "MB", against=""),
    Row("GPU memory at rest, its processes", "idle.gpu_mb", "MB"),
    Row("  after the last request", "after.gpu_mb", "MB"),
    Row("GPU memory at rest, all of the devices", "idle.gpu_devices_mb", "MB"),
    Row("  after the last request", "after.gpu_devices_mb", "MB"),
    Row("Memory after many pages, at rest", "memory.rest_mb", "MB"),
    Row("GPU memory after them, all of the devices", "memory.rest_gpu_mb", "MB"),
    Row("Growth per page, all processes", "memory.tree_slope_mb", "MB", compared=False),
    Row("Growth per page, server process", "memory.gateway_slope_mb", "MB", compared=False),
    Row(f"Start by spawn: {default.LEAN}", "spawn.s", "s", MEDIAN, default.LEAN, default.FULL),
    Row("Small task, processor time of the server process", "cpu.alone_ms", "ms"),
    Row(f"  with {CLIENTS} clients", "cpu.clients_ms", "ms"),
    Row(f"Small tasks done, {CLIENTS} clients, synchronous", "clients.sync_per_s", "1/s"),
    Row(f"Small tasks done, {CLIENTS} clients, asynchronous", "clients.done_per_s", "1/s"),
    Row("Fetching a huge result", "huge.fetch_s", "s"),
    Row("  server process grew by", "huge.grown_mb", "MB", compared=False),
    Row("  /health meanwhile, slowest", "huge.health_ms", "ms", max),
)
_LOADED: tuple[Row, ...] = (
    *_sides("small.ms", "Markdown, synchronous", "ms"),
    *_sides("office.ms", "Office and HTML, synchronous", "ms"),
    Row("Scanned page, synchronous", "page.s", "s"),
    Row("  of it not conversion", "page.rest_ms", "ms"),
    *(
        Row(
            f"Pages/s, {count} document{'s' * (count > 1)} in work",
            f"throughput.pages_per_s@{count}",
            "1/s",
        )
        for count in CONCURRENCIES
    ),
    *_sides("health.idle_ms", "/health, idle", "ms"),
    *_sides("health.busy_ms", "/health, two scans in work", "ms"),
    *_sides("queue.health_ms", "/health, Markdown in a burst", "ms"),
    Row("Markdown in a burst, taken in", "queue.accepted_per_s", "1/s"),
    Row("Markdown in a burst, done", "queue.done_per_s", "1/s"),
    Row("  memory kept for the results", "queue.kept_mb", "MB", compared=False),
)
_OWN: tuple[Row, ...] = (
    *_ways(
        "isolation.scan_s",
        "Scan",
        "s",
        (ways.WARM, ways.STANDBY, ways.FORKSERVER),
        ways.IN_PROCESS,
    ),
    *_ways(
        "first.page_s",
        "First page after idle",
        "s",
        (ways.SPAWN, ways.STANDBY, ways.FORKSERVER),
        "",
    ),
    *(
        Row(f"  {name}: {way}", f"stage.{name}", "s", subject=way, against="")
        for way in (ways.SPAWN, ways.STANDBY, ways.FORKSERVER)
        for name in stages.NAMES
    ),
    Row("A forked worker until it is ready", "pool.start_ms", "ms", against=""),
    Row("A job that does nothing, there and back", "pool.trip_ms", "ms", against=""),
    *(
        Row(f"Tasks accepted, {how}, {count} client{'s' * (count > 1)}", measure, "1/s", against="")
        for how, name in (("fsync", "journal.durable_per_s"), ("no fsync", "journal.per_s"))
        for count in (1, 16)
        for measure in (f"{name}@{count}",)
    ),
)
SECTIONS: tuple[Section, ...] = (
    Section("Default configuration", _DEFAULT),
    Section("Models kept loaded", _LOADED),
    Section("Ways to run this build", _OWN, beside_upstream=False),
)

# What a reader wants to know first.
_SUMMED_UP = (
    "start.ready_s",
    "idle.rss_mb",
    "after.rss_mb",
    "memory.rest_mb",
    f"alone.{default.MARKDOWN}_s@10",
    f"alone.{default.DOCX}_s@10",
    f"alone.{default.PAGE}_s@10",
    "clients.done_per_s",
)
SUMMARY = tuple(row for row in _DEFAULT if row.measure in _SUMMED_UP)


def sections(results: Results) -> list[tuple[Section, list[Line]]]:
    """The sections, with the lines that were measured; none without any."""
    found = []
    for section in SECTIONS:
        rows = (*section.rows, *_fanout(results)) if section.rows is _OWN else section.rows
        shown = [line for row in rows if (line := line_of(row, results)) is not None]
        if shown:
            found.append((section, shown))
    return found


def line_of(row: Row, results: Results) -> Line | None:
    """The figures of one row, None if its subject was not measured."""
    ours = {n: row.figure(v) for n, v in results.by_round(row.measure, row.subject).items()}
    theirs = {n: row.figure(v) for n, v in results.by_round(row.measure, row.against).items()}
    if not ours:
        return None
    both = sorted(set(ours) & set(theirs))
    paired = ratios([ours[n] for n in both], [theirs[n] for n in both])
    return Line(
        row,
        spread(list(ours.values())),
        spread(list(theirs.values())) if theirs else None,
        spread(paired) if paired and row.compared else None,
    )


def _fanout(results: Results) -> list[Row]:
    """Against the first way measured: one worker, one page after the other."""
    measure = "fanout.pages_per_s"
    subjects = [o.subject for o in results.observations if o.measure == measure]
    return [
        Row(
            f"Pages/s of one long scan: {subject}",
            measure,
            "1/s",
            subject=subject,
            against=subjects[0],
        )
        for subject in subjects
    ]
