"""The figures of a run as Markdown, for the terminal and for docs/scale.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.fleet.runs import KillRun, Throughput


def kill_table(run: KillRun) -> str:
    """What was lost, doubled or repeated."""
    verdict = run.verdict
    killed = ", ".join(f"{what} ({count}x)" for what, count in run.killed.items())
    places = ", ".join(f"{tenant} {place:.2f}" for tenant, place in run.median_places.items())
    return table(
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
    return table(head, rows)


def memory_table(found: Mapping[int, float]) -> str:
    """Redis' memory by size of a document."""
    rows = [(f"{size / 1000:g} kB", f"{used / 1000:.1f} kB") for size, used in found.items()]
    return table(("document", "memory in Redis while the task waits"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
