"""The curves of a run as PNG: memory, latency, throughput."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measures.memory import GPU_OVER_TIME, OVER_TASKS, OVER_TIME
from benchmarks.plan import CONCURRENCIES
from benchmarks.results import Results
from benchmarks.servers import OURS, UPSTREAM
from benchmarks.statistics import spread

# From Okabe and Ito's palette, distinguishable with every kind of colour blindness and in grey.
COLOURS = {OURS: "#0072B2", UPSTREAM: "#D55E00"}
_FALLBACK = "#56B4E9"
_LATENCIES = (
    ("small.ms", "Markdown, synchronous"),
    ("office.ms", "office and HTML, synchronous"),
    ("health.busy_ms", "/health, two scans in work"),
)


def draw_all(results: Results, folder: Path, prefix: str) -> list[Path]:
    """Write every plot that has data; returns the files."""
    mpl.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    folder.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Callable[[Results], Figure | None]] = {
        "memory": _memory,
        "latency": _latency,
        "throughput": _throughput,
    }
    written = []
    for name, draw in plots.items():
        figure = draw(results)
        if figure is not None:
            file = folder / f"{prefix}-{name}.png"
            figure.savefig(file)
            written.append(file)
    return written


def _memory(results: Results) -> Figure | None:
    drawn = {curve.name for curve in results.curves}
    names = [name for name in (OVER_TIME, OVER_TASKS, GPU_OVER_TIME) if name in drawn]
    if not names:
        return None
    figure = Figure(figsize=(5.5 * len(names), 4.4), dpi=120, layout="constrained")
    axes = dict(zip(names, figure.subplots(1, len(names), squeeze=False)[0], strict=True))
    for curve in results.curves:
        colour = COLOURS.get(curve.subject, _FALLBACK)
        xs, ys = zip(*curve.points, strict=True) if curve.points else ((), ())
        axes[curve.name].plot(xs, ys, color=colour, label=curve.subject)
        axes[curve.name].set_xlabel(curve.x)
    for name, one in axes.items():
        one.set_title(name, loc="left")
        one.set_ylim(bottom=0)
        one.grid(axis="y", alpha=0.3)
    axes[names[0]].set_ylabel("MB, of all processes")
    axes[OVER_TASKS if OVER_TASKS in axes else names[0]].legend(frameon=False)
    return figure


def _latency(results: Results) -> Figure | None:
    measured = [(m, title) for m, title in _LATENCIES if results.pooled(m, OURS)]
    if not measured:
        return None
    figure = Figure(figsize=(11, 3.8), dpi=120, layout="constrained")
    for axes, (measure, title) in zip(
        figure.subplots(1, len(measured), squeeze=False)[0], measured, strict=True
    ):
        for subject in (OURS, UPSTREAM):
            _distribution(axes, results.pooled(measure, subject), subject)
        axes.set_title(title, loc="left")
        axes.set_xscale("log")
        axes.set_xlabel("milliseconds")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("share of requests answered")
    figure.axes[0].legend(frameon=False)
    return figure


def _distribution(axes: Axes, values: list[float], subject: str) -> None:
    if values:
        shares = [(place + 1) / len(values) for place in range(len(values))]
        axes.step(sorted(values), shares, where="post", color=COLOURS[subject], label=subject)


def _throughput(results: Results) -> Figure | None:
    figure = Figure(figsize=(6.5, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for subject in (OURS, UPSTREAM):
        found = [
            (count, spread(values))
            for count in CONCURRENCIES
            if (values := results.pooled(f"throughput.pages_per_s@{count}", subject))
        ]
        if not found:
            return None
        middles = [one.median for _, one in found]
        below = [one.median - one.low for _, one in found]
        above = [one.high - one.median for _, one in found]
        axes.errorbar(
            [count for count, _ in found],
            middles,
            yerr=(below, above),
            color=COLOURS[subject],
            marker="o",
            capsize=3,
            label=subject,
        )
    axes.set_xticks(CONCURRENCIES)
    axes.set_xlabel("documents in work")
    axes.set_ylabel("scanned pages per second")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    return figure
