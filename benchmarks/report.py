"""The results for people: a table for the terminal, and a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.goals import Verdict, verdicts
from benchmarks.results import Results
from benchmarks.rows import SUMMARY, Line, Section, line_of, sections
from benchmarks.servers import OURS, UPSTREAM
from benchmarks.statistics import Spread

REPORT_MARKS = "<!-- report: written by python -m benchmarks -->", "<!-- end of report -->"
SUMMARY_MARKS = "<!-- figures: written by python -m benchmarks -->", "<!-- end of figures -->"
_HEADS = ("", OURS, UPSTREAM, "ratio")
_OWN_HEADS = ("", OURS, "against", "ratio")
_GOAL_HEADS = ("Goal", "Wanted", "Seen", "")
_WORDS = {True: "reached", False: "**missed**", None: "not measured here"}


def tables(results: Results) -> list[Table]:
    """The figures, section by section, and the goals, for the terminal."""
    shown = []
    for section, lines in sections(results):
        one = Table(box=SIMPLE_HEAD, title=f"{section.title}: median of the rounds (range)")
        for number, head in enumerate(_heads(section)):
            one.add_column(head, justify="left" if number == 0 else "right", no_wrap=number == 0)
        for line in lines:
            one.add_row(*_cells(line))
        shown.append(one)
    return [*shown, _goals_table(results)]


def _heads(section: Section) -> tuple[str, ...]:
    return _HEADS if section.beside_upstream else _OWN_HEADS


def _goals_table(results: Results) -> Table:
    shown = Table(box=SIMPLE_HEAD, title="Goals")
    for number, head in enumerate(_GOAL_HEADS):
        shown.add_column(head, justify="right" if number in (1, 2) else "left")
    for verdict in verdicts(results):
        colour = {True: "green", False: "red", None: "dim"}[verdict.held]
        *cells, word = _goal_cells(verdict)
        shown.add_row(*cells, f"[{colour}]{word.strip('*')}[/{colour}]")
    return shown


def markdown(results: Results, plots: Iterable[Path], relative_to: Path) -> str:
    """The whole report; ``plots`` are linked relatively to the folder ``relative_to``."""
    parts = [
        "\n".join(f"- {name}: {value}" for name, value in results.machine.items()),
        "\n".join(f"- {name}: {value}" for name, value in results.setup.items()),
        *(f"**{note}**" for note in results.notes),
        "Each figure is the median of the rounds, with their range; a ratio is the median of the"
        " ratios of paired rounds.",
        *(
            f"### {section.title}\n\n{_markdown_table(_heads(section), map(_cells, lines))}"
            for section, lines in sections(results)
        ),
        "### Goals",
        _markdown_table(_GOAL_HEADS, map(_goal_cells, verdicts(results))),
        *(f"![{plot.stem.replace('-', ' ')}]({_link(plot, relative_to)})" for plot in plots),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(results: Results) -> str:
    """A short table for a page about something else: medians, no ranges."""
    shown = (line_of(row, results) for row in SUMMARY)
    rows = [
        (line.row.title, *(_median(side, line.row.unit) for side in (line.subject, line.against)))
        for line in shown
        if line is not None
    ]
    head = f"Nothing set but the mode ({results.machine['Processor']})"
    return _markdown_table((head, OURS, UPSTREAM), rows) + "\n"


def put_into(page: Path, text: str, marks: tuple[str, str] = REPORT_MARKS) -> None:
    """Replace the text between the two marks of a page.

    Raises:
        ValueError: the page does not have the marks.
    """
    begin, end = marks
    whole = page.read_text(encoding="utf-8")
    if begin not in whole or end not in whole:
        raise ValueError(f"{page} has no place for a report")
    before, _, rest = whole.partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", encoding="utf-8")


def number(value: float) -> str:
    """Three significant figures, and no more digits than these need."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}"


def _cells(line: Line) -> tuple[str, str, str, str]:
    unit, against = line.row.unit, line.row.against
    theirs = "" if line.against is None else _with_range(line.against, unit)
    if theirs and against != UPSTREAM:
        theirs = f"{against}: {theirs}"
    ratio = "" if line.ratio is None else _with_range(line.ratio, "x")
    return line.row.title, _with_range(line.subject, unit), theirs, ratio


def _median(values: Spread | None, unit: str) -> str:
    return "" if values is None else f"{number(values.median)} {unit}"


def _with_range(values: Spread, unit: str) -> str:
    middle = _median(values, unit)
    if values.count == 1:
        return middle
    return f"{middle} ({number(values.low)} to {number(values.high)})"


def _goal_cells(verdict: Verdict) -> tuple[str, str, str, str]:
    goal = verdict.goal
    sign = ">=" if goal.at_least else "<="
    seen = "" if verdict.value is None else f"{number(verdict.value)} {goal.unit}"
    return goal.text, f"{sign} {goal.limit:g} {goal.unit}", seen, _WORDS[verdict.held]


def _markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    all_rows = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.strip() for cell in row) + " |" for row in all_rows)


def _link(file: Path, folder: Path) -> str:
    return str(file.resolve().relative_to(folder.resolve()))
