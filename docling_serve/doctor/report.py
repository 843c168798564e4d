"""The doctor's output: for people, or as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from docling_serve.doctor.facts import Facts
from docling_serve.doctor.findings import Finding, Level, exit_status
from docling_serve.doctor.trial.run import ModeTrial

_STYLES = {
    Level.OK: "green",
    Level.NOTE: "cyan",
    Level.WARNING: "yellow",
    Level.PROBLEM: "bold red",
}
_WIDTH = max(len(level.value) for level in Level)
_MB = 1_000_000
_INDENT = 2 + _WIDTH + 2


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """One line for each finding under the heading of its area, with its advice below it."""
    for area, group in groupby(findings, key=lambda finding: finding.area):
        console.print(f"[bold]{area.value}[/bold]")
        for finding in group:
            level = f"[{_STYLES[finding.level]}]{finding.level.value:<{_WIDTH}}[/]"
            _hanging(console, f"  {level}  ", escape(finding.text))
            if finding.advice:
                _hanging(console, " " * _INDENT, "→ " + escape(finding.advice))


def print_summary(console: Console, findings: Sequence[Finding]) -> None:
    """The number of findings, for each level that needs attention."""
    counts = {level: sum(one.level is level for one in findings) for level in Level}
    console.print(f"{counts[Level.PROBLEM]} problem(s), {counts[Level.WARNING]} warning(s)")


def as_json(facts: Facts, findings: Sequence[Finding], **more: Any) -> str:
    """Facts, findings and ``more`` in one document; ``ok`` says whether there is no problem."""
    document = {
        "ok": exit_status(findings) == 0,
        "findings": [dataclasses.asdict(finding) for finding in findings],
        "facts": dataclasses.asdict(facts),
        **more,
    }
    return json.dumps(document, indent=1, default=str)


def trial_table(trial: ModeTrial) -> Table:
    """Memory before, at the peak of and after each task of one mode."""
    has_gpu = trial.idle.gpu_used is not None
    table = Table(
        title=f"Mode {trial.mode}, MB: before, at the peak, after",
        box=SIMPLE_HEAD,
        title_justify="left",
    )
    for name in ("task", "seconds", *(["GPU, all programs"] if has_gpu else []), "host", "back"):
        table.add_column(name, justify="left" if name == "task" else "right", no_wrap=True)
    for number, task in enumerate(trial.tasks, start=1):
        moments = (task.before, task.peak, task.after)
        gpu = [_figures(one.gpu_used or 0 for one in moments)] if has_gpu else []
        back = "no" if task.back_s is None else f"{task.back_s:.1f} s"
        host = _figures(one.total for one in moments)
        table.add_row(f"{number} {escape(task.document)}", f"{task.seconds:.2f}", *gpu, host, back)
    return table


def _figures(sizes: Iterable[int]) -> str:
    return " ".join(f"{size / _MB:>7,.0f}" for size in sizes)


def _hanging(console: Console, first: str, text: str) -> None:
    """Print ``text`` after ``first``, with further lines indented to where it starts."""
    if not console.is_terminal:  # one line for each, so that grep finds all of it
        console.print(first + text, soft_wrap=True)
        return
    grid = Table.grid()
    grid.add_column(width=_INDENT)
    grid.add_column()
    grid.add_row(first, text)
    console.print(grid)
