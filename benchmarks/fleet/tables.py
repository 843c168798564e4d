"""The figures of a run as Markdown, for the terminal and for docs/scale.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.fleet.runs import KillRun, Throughput
from benchmarks.fleet.simulation import Work, workers_needed

RATES_PER_DAY = (10_000, 100_000, 1_000_000)
_DAY_S = 86_400


def kill_table(run: KillRun) -> str:
    """What was lost, doubled or repeated."""
    verdict = run.verdict
    killed = ", ".join(f"{what} ({count}x)" for what, count in run.killed.items())
    places = ", ".join(f"{tenant} {place:.2f}" for tenant, place in run.median_places.items())
    return _table(
        ("", ""),
        [
            ("tasks", f"{verdict.tasks:,}"),
            ("killed and started again", killed),
            ("right result read by the client", f"{verdict.done:,}"),
            ("lost: never ended", f"{verdict.lost:,}"),
            ("ended without a result, or with a wrong one", f"{verdict.wrong:,}"),
            ("failed as retryable, sent again by the client", f"{verdict.repeated_by_client:,}"),
            ("accepted twice", f"{verdict.accepted_twice:,}"),
            ("ended twice", f"{verdict.converted_twice:,}"),
            ("callbacks: tasks with one", f"{verdict.callbacks:,}"),
            ("callbacks: last event came", f"{verdict.ends_told:,}"),
            ("callbacks: last event came twice", f"{verdict.ends_told_twice:,}"),
            ("median place of a task in the order of ends, by tenant", places),
            ("Redis memory of a waiting task", f"{run.redis_bytes_per_task / 1000:.1f} kB"),
        ],
    )


def throughput_table(runs: Sequence[Throughput]) -> str:
    """Tasks a second, and processor time by part."""
    rows = [
        (
            run.product,
            run.engine,
            str(run.workers),
            f"{run.count / run.seconds:.1f}",
            f"{run.per_cpu_s:.1f}",
            ", ".join(f"{name} {1000 * spent:.1f}" for name, spent in run.cpu_s.items()),
        )
        for run in runs
    ]
    head = ("", "engine", "workers", "tasks/s", "tasks per processor second", "ms of it per task")
    return _table(head, rows)


def memory_table(found: Mapping[int, float]) -> str:
    """Redis' memory by size of a document."""
    rows = [(f"{size / 1000:g} kB", f"{used / 1000:.1f} kB") for size, used in found.items()]
    return _table(("document", "memory in Redis while the task waits"), rows)


def workers_table(works: Mapping[str, Work], within_s: float) -> str:
    """Workers for some loads, from the simulation."""
    rows = []
    for per_day in RATES_PER_DAY:
        per_s = per_day / _DAY_S
        numbers = [f"{workers_needed(per_s, work, within_s):,}" for work in works.values()]
        rows.append((f"{per_day:,}", *numbers))
    return _table(("documents a day", *works), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
