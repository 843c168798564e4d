"""Convert documents of known structure with each profile, and print the accuracy."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.table import Table

from .conversions import PROFILES, Conversion, NotConverted, ProfileRun, convert
from .metrics import Found, Scores, scores
from .references import Case, cases_in, drawn_cases

_FOUND = ("headings", "list_items", "tables", "pictures", "captions")
_COLUMNS = (
    "profile", "variant", "heading F1", "list F1", "tables F1", "TEDS", "picture F1", "caption F1",
    "order", "two columns right", "text", "CPU s/page",
)  # fmt: skip

Result = tuple[Case, Conversion, Scores]


def main() -> int:
    """Run it; the exit status is 0 if at least one profile converted everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--folder", type=Path, help="PDFs with references beside them")
    parser.add_argument("--profile", action="append", choices=list(PROFILES), help="only this one")
    parser.add_argument("--each", action="store_true", help="also the figures of each document")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    given = parser.parse_args()
    cases = list(cases_in(given.folder) if given.folder else drawn_cases())
    console = Console(width=160)
    table = Table(*_COLUMNS, title="1 is right; CPU time of one process, models loaded before")
    figures: list[dict[str, object]] = []
    for profile in given.profile or PROFILES:
        try:
            run = convert(profile, [case.pdf for case in cases])
        except NotConverted as exc:
            console.print(f"{profile}: not measured: {exc}", markup=False)
            continue
        results = [
            (case, converted, scores(case.reference, converted.document))
            for case, converted in zip(cases, run.documents, strict=True)
        ]
        for variant in dict.fromkeys(case.variant for case in cases):
            row = _row(profile, variant, [one for one in results if one[0].variant == variant])
            figures.append(row)
            table.add_row(*(_shown(row[column]) for column in _COLUMNS))
        if given.each:
            _print_each(console, results)
        console.print(_process(profile, run), markup=False)
    console.print(table)
    if given.output:
        given.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0 if figures else 1


def _row(profile: str, variant: str, results: Sequence[Result]) -> dict[str, object]:
    found = {
        name: sum((getattr(one, name) for _, _, one in results), Found()).f1 for name in _FOUND
    }
    teds = [value for _, _, one in results for value in one.teds]
    columns = [one.order == 1.0 for case, _, one in results if case.has_columns]
    pages = sum(converted.pages for _, converted, _ in results)
    return dict(
        zip(
            _COLUMNS,
            (
                profile,
                variant,
                found["headings"],
                found["list_items"],
                found["tables"],
                mean(teds) if teds else None,
                found["pictures"],
                found["captions"],
                mean(one.order for _, _, one in results),
                f"{sum(columns)} of {len(columns)}",
                mean(one.text for _, _, one in results),
                sum(converted.cpu_s for _, converted, _ in results) / max(pages, 1),
            ),
            strict=True,
        )
    )


def _print_each(console: Console, results: Sequence[Result]) -> None:
    for case, converted, one in results:
        counts = "  ".join(
            f"{name} {part.right}/{part.expected}/{part.found}"
            for name in _FOUND
            if (part := getattr(one, name)).expected or part.found
        )
        console.print(
            f"{case.name:10} {case.variant:10} {counts}  order {one.order:.3f}  "
            f"text {one.text:.3f}  teds {[round(value, 2) for value in one.teds]}  "
            f"{converted.cpu_s:.2f} s",
            markup=False,
        )


def _process(profile: str, run: ProfileRun) -> str:
    torch = "with torch" if run.imported_torch else "no torch"
    return f"{profile}: process at its peak {run.peak_bytes / 1e6:,.0f} MB, {torch}"


def _shown(value: object) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
