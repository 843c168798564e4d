"""Draw the memory of both runs over time, on the same axes."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from docling_serve.doctor.trial.memory import INTERVAL_S

from .checks import MB
from .runs import Run

# From Okabe and Ito's palette, distinguishable with every kind of colour blindness and in grey.
GATEWAY_COLOUR = "#0072B2"
WORKER_COLOUR = "#E69F00"
GPU_COLOUR = "#000000"
TASK_COLOUR = "#999999"
TEXT_COLOUR = "#444444"
NO_BREAK = "\u00a0"

_TITLES = {
    "off": "Subprocess mode off: models stay in the server (staircase)",
    "on": "Subprocess mode on: what a task took comes back after it (saw-tooth)",
}


def draw(off: Run, on: Run, file: Path) -> None:
    """Write the plot of both runs as PNG."""
    mpl.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(11, 7.6), dpi=130)
    upper, lower = figure.subplots(2, 1, sharex=True, sharey=True)
    for axes, run in ((upper, off), (lower, on)):
        _draw_run(axes, run)
    top = max(sample.total for run in (off, on) for sample in run.samples) / 1e9
    upper.set_ylim(0, top * 1.22)
    upper.set_xlim(0, max(run.samples[-1].time_s for run in (off, on)))
    lower.set_xlabel("seconds since the server's start")
    figure.suptitle("Memory of the server while it converts the same documents", weight="bold")
    handles, labels = lower.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper right", bbox_to_anchor=(0.915, 0.945), frameon=False, ncols=4
    )
    figure.text(0.012, 0.012, caption(off, on), fontsize=8.5, color=TEXT_COLOUR, va="bottom")
    figure.subplots_adjust(left=0.06, right=0.915, top=0.87, bottom=0.175, hspace=0.24)
    figure.savefig(file)


def caption(off: Run, on: Run) -> str:
    """What was measured, which task is which, and the seconds it took in both modes."""
    named = (
        f"{number} {new.step.document} ({new.step.way}) {old.seconds:.2f} / {new.seconds:.2f} s"
        for number, (old, new) in enumerate(zip(off.tasks, on.tasks, strict=True), start=1)
    )
    tasks = ",  ".join(one.replace(" ", NO_BREAK) for one in named)
    gpu = (
        "no GPU."
        if on.idle.gpu_used is None
        else "GPU memory is that of all programs on the card, as the driver tells it."
    )
    how = (
        f"Resident memory (RSS) of all processes of the server together, every {INTERVAL_S:g} s. "
        "A page that two of them share counts twice, so with the mode on the figure is, if "
        "anything, too high. Grey: a task, from request to answer. "
        f"{os.cpu_count()} CPU cores, {gpu}"
    )
    return "\n".join(
        [
            *textwrap.wrap(f"Tasks, seconds with the mode off / on: {tasks}.", 150),
            *textwrap.wrap(how, 150),
        ]
    )


def _draw_run(axes: Axes, run: Run) -> None:
    times = [sample.time_s for sample in run.samples]
    axes.stackplot(
        times,
        [(sample.gateway_rss + sample.helper_rss) / 1e9 for sample in run.samples],
        [sample.worker_rss / 1e9 for sample in run.samples],
        labels=["server process", "worker process"],
        colors=[GATEWAY_COLOUR, WORKER_COLOUR],
    )
    if run.idle.gpu_used is not None:
        gpu = [(sample.gpu_used or 0) / 1e9 for sample in run.samples]
        axes.plot(times, gpu, color=GPU_COLOUR, linestyle="--", label="GPU memory")
    for number, task in enumerate(run.tasks, start=1):
        axes.axvspan(
            task.started_s,
            max(task.ended_s, task.started_s + 0.3),
            color=TASK_COLOUR,
            alpha=0.25,
            linewidth=0,
            zorder=0,
            label="task" if number == 1 else None,
        )
        middle = (task.started_s + task.ended_s) / 2
        axes.annotate(
            str(number),
            (middle, 0.97),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="top",
            weight="bold",
        )
    axes.set_title(_TITLES[run.mode], loc="left", fontsize=11)
    axes.set_ylabel("memory, GB")
    axes.grid(axis="y", alpha=0.3)
    rest = run.final.total
    axes.axhline(rest / 1e9, color=TEXT_COLOUR, linewidth=0.8, linestyle=":")
    axes.annotate(
        f"{rest / MB:,.0f} MB\nat rest",
        (1.006, rest / 1e9),
        xycoords=("axes fraction", "data"),
        va="center",
        weight="bold",
        annotation_clip=False,
    )
