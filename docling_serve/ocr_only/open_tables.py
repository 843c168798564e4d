"""Find tables that no rule surrounds and no detector saw, by rows whose cells are aligned.

Columns of prose look alike, so a run of rows counts only if its cells are not those of prose:
wide, and filled to nearly the same width line after line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

from .boxes import Box, enclosing
from .lists import list_items
from .page_objects import PageObject, TextLine
from .ruled_grid import Rules
from .table_grid import Row, Word, column_gaps, phrases_of, rows_of

# Multiples of the usual height of a line.
_CELL_GAP = 1.4
_COMMON_GAP = 0.9
_ROW_DISTANCE = 3.2
_PROSE_WIDTH = 8.0
_PROSE_FILL = 0.75  # of the widest line's width
_MIN_ROWS = 3
_SCORE = 0.6  # there is none


def open_tables(lines: Sequence[TextLine]) -> list[PageObject]:
    """Tables among ``lines``, with the lines inside them."""
    if not lines:
        return []
    items, _ = list_items(lines)
    listed = {line.index for item in items for line in item}
    unit = median(line.height for line in lines)
    words = {
        Word(line.left, line.top, line.right, line.bottom, str(line.index)): line
        for line in lines
        if line.index not in listed
    }
    found = []
    for run in _runs(rows_of(phrases_of(list(words), Rules(), unit)), unit):
        if _is_table(run, unit):
            box = enclosing([row.box for row in run])
            inside = tuple(line for line in words.values() if _within(line, box))
            found.append(PageObject("table", _SCORE, box, inside))
    return found


def _runs(rows: Sequence[Row], unit: float) -> Iterator[list[Row]]:
    """Rows with several cells that follow each other."""
    run: list[Row] = []
    for row in rows:
        has_cells = any(b.left - a.right > _CELL_GAP * unit for a, b in pairwise(row.phrases))
        if run and (not has_cells or row.middle - run[-1].middle > _ROW_DISTANCE * unit):
            yield run
            run = []
        if has_cells:
            run.append(row)
    if run:
        yield run


def _is_table(run: Sequence[Row], unit: float) -> bool:
    if len(run) < _MIN_ROWS:
        return False
    gaps = [gap for gap in column_gaps(run, unit) if gap[1] - gap[0] > _COMMON_GAP * unit]
    if not gaps:
        return False
    edges = [run[0].box.left - unit, *((a + b) / 2 for a, b in gaps), float("inf")]
    prose = sum(_is_prose(run, left, right, unit) for left, right in pairwise(edges))
    return prose <= (1 if len(gaps) > 1 else 0)


def _is_prose(run: Sequence[Row], left: float, right: float, unit: float) -> bool:
    widths = [
        phrase.width
        for row in run
        for phrase in row.phrases
        if left < (phrase.left + phrase.right) / 2 < right
    ]
    if len(widths) < _MIN_ROWS:
        return False
    usual = median(widths)
    return usual > _PROSE_WIDTH * unit and usual > _PROSE_FILL * max(widths)


def _within(line: TextLine, box: Box) -> bool:
    x = (line.left + line.right) / 2
    return box.left <= x <= box.right and box.top <= line.middle <= box.bottom
