"""What the doctor prints: for people, or as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from docling_serve.doctor.facts import Facts
from docling_serve.doctor.findings import Finding, Level, exit_status

_STYLES = {
    Level.OK: "green",
    Level.NOTE: "cyan",
    Level.WARNING: "yellow",
    Level.PROBLEM: "bold red",
}
_WIDTH = max(len(level.value) for level in Level)
_INDENT = 2 + _WIDTH + 2


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """One line for each finding under the heading of its area, with what to do next below it."""
    for area, group in groupby(findings, key=lambda finding: finding.area):
        console.print(f"[bold]{area.value}[/bold]")
        for finding in group:
            level = f"[{_STYLES[finding.level]}]{finding.level.value:<{_WIDTH}}[/]"
            _hanging(console, f"  {level}  ", escape(finding.text))
            if finding.advice:
                _hanging(console, " " * _INDENT, "→ " + escape(finding.advice))


def print_summary(console: Console, findings: Sequence[Finding]) -> None:
    """How many findings of the levels that ask for something."""
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


def _hanging(console: Console, first: str, text: str) -> None:
    """Print ``text`` after ``first``, its further lines below its own beginning."""
    if not console.is_terminal:  # one line for each, so that grep finds all of it
        console.print(first + text, soft_wrap=True)
        return
    grid = Table.grid()
    grid.add_column(width=_INDENT)
    grid.add_column()
    grid.add_row(first, text)
    console.print(grid)
