"""Group the text lines of a page into blocks, in reading order. Geometry only, no imports.

The rule, in the order it is applied:

1. Lines side by side are one row; rows go from top to bottom.
2. A run of rows with a clear vertical gap through all of it is read as columns, left to right,
   each by this same rule. The gap counts when at least three rows on both sides have text and
   that text is as wide as prose: the narrow cells of a form or a table stay in their rows.
3. Elsewhere, rows that follow closely and are of one size form a block (a paragraph). A row of
   cells with wide space between them is a block of its own, so a table keeps its rows.

Every distance is in multiples of the lines' median height, so resolution does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, median_low
from typing import TypeVar

# Multiples of the median line height.
_COLUMN_GAP = 0.6  # a gutter; boxes of OCR are a little larger than their text
_COLUMN_WIDTH = 8.0  # prose; figures, dates and labels are narrower
_CELL_GAP = 1.5  # wider than any space between words
_CLOSE = 0.5  # rows this near always belong together
_APART = 1.2  # rows this far apart never do
_EXTRA_LEADING = 0.4  # beyond the usual distance of rows: a new paragraph
_ENOUGH_GAPS = 3
_MIN_COLUMN_ROWS = 3
_SAME_SIZE = 1.7  # ratio of row heights; a line without ascenders is that much lower


@dataclass(frozen=True)
class Line:
    """The box of one text line; ``top`` < ``bottom``, any unit. ``index`` is the caller's."""

    index: int
    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


AnyLine = TypeVar("AnyLine", bound=Line)


@dataclass(frozen=True)
class _Row:
    """Lines side by side, left to right."""

    lines: tuple[Line, ...]

    @property
    def top(self) -> float:
        return min(line.top for line in self.lines)

    @property
    def bottom(self) -> float:
        return max(line.bottom for line in self.lines)

    @property
    def height(self) -> float:
        return median_low(line.height for line in self.lines)

    def has_cells(self, unit: float) -> bool:
        gap = _CELL_GAP * unit
        return any(after.left - before.right > gap for before, after in pairwise(self.lines))


@dataclass(frozen=True)
class _Spacing:
    """What the rows of one page, or of one column, have in common."""

    unit: float  # median line height
    paragraph_gap: float  # rows further apart than this belong to different blocks


def group_into_blocks(lines: Iterable[AnyLine]) -> list[list[AnyLine]]:
    """Blocks in reading order, each with its lines in reading order; every line exactly once."""
    given = list(lines)
    by_index = {line.index: line for line in given}
    return [[by_index[line.index] for line in block] for block in _blocks(given)]


def _blocks(lines: Iterable[Line]) -> list[list[Line]]:
    rows = _rows(lines)
    if not rows:
        return []
    spacing = _spacing(rows)
    blocks: list[list[Line]] = []
    plain: list[_Row] = []
    start = 0
    while start < len(rows):
        end, gutter = _columns(rows, start, spacing.unit)
        body = _after_short_lines(rows, start, end, gutter, spacing)
        plain.extend(rows[start:body])
        if body == start:
            blocks.extend(_paragraphs(plain, spacing))
            plain = []
            within = [line for row in rows[start:end] for line in row.lines]
            blocks.extend(_blocks(line for line in within if line.right <= gutter))
            blocks.extend(_blocks(line for line in within if line.right > gutter))
            body = end
        start = body
    blocks.extend(_paragraphs(plain, spacing))
    return blocks


def _spacing(rows: Sequence[_Row]) -> _Spacing:
    unit = median(line.height for row in rows for line in row.lines)
    gaps = [below.top - above.bottom for above, below in pairwise(rows)]
    # A few rows do not tell a paragraph's spacing from the space between paragraphs.
    usual = median_low(gaps) if len(gaps) >= _ENOUGH_GAPS else 0.0
    limit = min(max(usual + _EXTRA_LEADING * unit, _CLOSE * unit), _APART * unit)
    return _Spacing(unit, limit)


def _rows(lines: Iterable[Line]) -> list[_Row]:
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: (line.middle, line.left)):
        # Compared with the row's last line, so that a slightly turned page keeps its rows.
        if rows:
            last = rows[-1][-1]
            if abs(line.middle - last.middle) <= 0.5 * min(line.height, last.height):
                rows[-1].append(line)
                continue
        rows.append([line])
    return [_Row(tuple(sorted(row, key=lambda line: line.left))) for row in rows]


def _columns(rows: Sequence[_Row], start: int, unit: float) -> tuple[int, float]:
    """The longest run of rows from ``start`` that reads as columns.

    Returns its end (exclusive) and an x within the gap right of its first column; the end is
    ``start`` where there is no such run.
    """
    everything = [line for row in rows for line in row.lines]
    free = [(min(x.left for x in everything), max(x.right for x in everything))]
    found = (start, 0.0)
    for end in range(start + 1, len(rows) + 1):
        for line in rows[end - 1].lines:
            free = _without(free, line, _COLUMN_GAP * unit)
        if not free or unit <= 0:
            break
        for left, right in free:
            if _separates_prose(rows[start:end], left, right, _COLUMN_WIDTH * unit):
                found = (end, (left + right) / 2)
                break
    return found


def _after_short_lines(
    rows: Sequence[_Row], start: int, end: int, gutter: float, spacing: _Spacing
) -> int:
    """Where columns begin that were found from ``start`` to ``end``.

    A heading or a paragraph's short last line above them leaves the gap free, too; the
    space below it distinguishes it. Without columns (``end`` == ``start``), the next row.
    """
    if end == start:
        return start + 1
    body = start
    for number in range(start, end - 1):
        if any(line.right > gutter for line in rows[number].lines):
            break
        if rows[number + 1].top - rows[number].bottom > spacing.paragraph_gap:
            body = number + 1
    return body


def _without(
    free: list[tuple[float, float]], line: Line, min_width: float
) -> list[tuple[float, float]]:
    """The free x ranges that are left, and still wide enough, beside ``line``."""
    remaining: list[tuple[float, float]] = []
    for left, right in free:
        if line.right <= left or line.left >= right:
            remaining.append((left, right))
            continue
        remaining.extend(
            (a, b) for a, b in ((left, line.left), (line.right, right)) if b - a >= min_width
        )
    return remaining


def _separates_prose(rows: Sequence[_Row], left: float, right: float, min_width: float) -> bool:
    before = [[line for line in row.lines if line.right <= left] for row in rows]
    after = [[line for line in row.lines if line.left >= right] for row in rows]
    for side in (before, after):
        filled = [lines for lines in side if lines]
        if len(filled) < _MIN_COLUMN_ROWS:
            return False
        if median(line.width for lines in filled for line in lines) < min_width:
            return False
    return True


def _paragraphs(rows: Sequence[_Row], spacing: _Spacing) -> list[list[Line]]:
    blocks: list[list[Line]] = []
    above: _Row | None = None
    for row in rows:
        if above is None or _is_break(above, row, spacing):
            blocks.append([])
        blocks[-1].extend(row.lines)
        above = row
    return blocks


def _is_break(above: _Row, below: _Row, spacing: _Spacing) -> bool:
    smaller, larger = sorted((above.height, below.height))
    return (
        below.top - above.bottom > spacing.paragraph_gap
        or larger > _SAME_SIZE * smaller
        or above.has_cells(spacing.unit)
        or below.has_cells(spacing.unit)
    )
