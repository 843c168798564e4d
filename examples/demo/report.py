"""The terminal output of the demonstration."""

from __future__ import annotations

from collections.abc import Callable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from docling_serve.doctor.trial.memory import Sample

from .checks import MB
from .plan import Mode, Step
from .runs import Run, TaskRecord

HEAD_LINES = 3
HEAD_WIDTH = 96
PLAIN_WIDTH = 110

_Figure = Callable[[Sample], int]
_FIGURES: dict[str, _Figure] = {
    "gateway RSS": lambda sample: sample.gateway_rss,
    "worker RSS": lambda sample: sample.worker_rss,
}


def make_console() -> Console:
    """A console; if output is not a terminal, one that does not break tables at 80 columns."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


class ConsoleWatcher:
    """A line per document, with a spinner while it is converted; without a terminal, plain lines.

    ``heads`` also prints the start of each text.
    """

    def __init__(self, console: Console, heads: bool) -> None:
        self._console = console
        self._heads = heads
        self._progress: Progress | None = None
        self._label = ""

    def server_starting(self, mode: Mode) -> None:
        """Announce the run."""
        self._console.print(f"\n[bold]Subprocess mode {mode}[/bold]")
        self._begin("the server starts")

    def server_ready(self, ready_s: float) -> None:
        """The server accepts tasks."""
        self._end()
        self._console.print(f"server ready after {ready_s:.1f} s")

    def task_started(self, number: int, step: Step) -> None:
        """Task ``number`` is about to be sent."""
        self._begin(f"{number} {step.document:<12} {step.way:<14}")

    def task_state(self, state: str) -> None:
        """The state of the running task."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], description=f"{self._label} {state}")

    def task_done(self, task: TaskRecord) -> None:
        """The answer has arrived, right or wrong."""
        self._end()
        if task.problem:
            verdict = f"[bold red]WRONG[/bold red] {escape(task.problem)}"
        else:
            verdict = f"[green]ok[/green]  {task.phrases} of {task.phrases} expected phrases"
        self._console.print(f"{self._label} {task.seconds:6.2f} s  {verdict}")
        if self._heads:
            for line in _head(task.text):
                self._console.print(f"    │ {escape(line)}", style="dim")

    def _begin(self, label: str) -> None:
        self._label = label
        if self._console.is_terminal:
            self._progress = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._progress.start()
            self._progress.add_task(label)

    def _end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def memory_table(run: Run) -> Table:
    """Memory before, at the peak of and after each task, in MB."""
    figures = dict(_FIGURES)
    has_gpu = run.idle.gpu_used is not None
    if has_gpu:
        figures["GPU, all programs"] = lambda sample: sample.gpu_used or 0
    table = Table(title=f"Memory with subprocess mode {run.mode}, MB", box=SIMPLE_HEAD)
    table.add_column("task", no_wrap=True)
    table.add_column("seconds", justify="right")
    for name in figures:
        table.add_column(f"{name}\nbefore    peak   after", justify="right", no_wrap=True)
    if not has_gpu:
        table.add_column("GPU")
    for number, task in enumerate(run.tasks, start=1):
        moments = (task.before, task.peak, task.after)
        cells = [
            " ".join(f"{figure(sample) / MB:>7,.0f}" for sample in moments)
            for figure in figures.values()
        ]
        name = f"{number} {task.step.document}"
        table.add_row(name, f"{task.seconds:.2f}", *cells, *([] if has_gpu else ["no GPU"]))
    return table


def comparison(on: Run, off: Run) -> Table:
    """Seconds of each task in both modes, and what the server holds at rest."""
    table = Table(title="Mode on (default configuration) beside mode off", box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for mode in ("on", "off"):
        table.add_column(mode, justify="right", no_wrap=True)
    for number, (with_mode, without) in enumerate(zip(on.tasks, off.tasks, strict=True), start=1):
        name = f"{number} {with_mode.step.document:<12} {with_mode.step.way}"
        table.add_row(name, f"{with_mode.seconds:.2f} s", f"{without.seconds:.2f} s")
    table.add_section()
    for when, samples in (
        ("before the first task", (on.idle, off.idle)),
        ("after the last", (on.final, off.final)),
    ):
        held = (f"{sample.total / MB:,.0f} MB" for sample in samples)
        table.add_row(f"memory at rest {when}", *held)
    return table


def _head(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if line.strip()]
    shown = [
        line if len(line) <= HEAD_WIDTH else f"{line[:HEAD_WIDTH]}…" for line in lines[:HEAD_LINES]
    ]
    return [*shown, *(["…"] if len(lines) > HEAD_LINES else [])]
