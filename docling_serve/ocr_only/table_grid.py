"""Find the grid of a table in its words and ruling lines. Geometry only, no imports of docling.

Where rules cross, the rules are the grid, and a cell spans what no rule divides. Elsewhere columns
are where few rows have text, rows are lines of text, and a row belongs to the one above it when it
is set closer than rows are and begins in no first column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from .boxes import Box, are_in_a_row, enclosing
from .ruled_grid import Place, Rules, ruled_places, within

_WORD_GAP = 0.75  # multiples of a letter's height; wider is another cell
_COLUMN_GAP = 0.45
_ALIGNED = 0.6
_TIGHT = 0.62  # of the usual distance of rows: the next line of the same cell
_HALF_WAY = 1.45
_CROSSING = 0.2  # so many of the rows may have a cell across a gap


@dataclass(frozen=True)
class Word(Box):
    """A word, or a line if that is all that is known, with its text."""

    text: str


@dataclass(frozen=True)
class TableCell:
    """A cell of a grid; ``box`` is that of its words, or of its place where it has none."""

    row: int
    column: int
    row_span: int
    column_span: int
    text: str
    box: Box
    is_header: bool = False


@dataclass(frozen=True)
class TableGrid:
    """A table's structure; cells row by row."""

    rows: int
    columns: int
    cells: tuple[TableCell, ...]


@dataclass
class Row:
    """Cells side by side, from left to right."""

    phrases: list[Word]

    @property
    def box(self) -> Box:
        """Around all of them."""
        return enclosing(self.phrases)

    @property
    def middle(self) -> float:
        """The height of its middle."""
        return (self.box.top + self.box.bottom) / 2


def table_grid(words: Sequence[Word], rules: Rules, box: Box) -> TableGrid:
    """The grid of the table in ``box``; without words it has neither rows nor columns."""
    if not words:
        return TableGrid(0, 0, ())
    unit = median(word.height for word in words)
    places = ruled_places(rules, box)
    cells = _fill(places, words) if places else _open_cells(words, rules, unit)
    return _finished(cells)


# ---- with rules ---------------------------------------------------------------------------------


def _fill(places: Sequence[Place], words: Sequence[Word]) -> list[TableCell]:
    left_over = list(words)
    cells = []
    for place in places:
        inside = [word for word in left_over if within(word, place.box)]
        left_over = [word for word in left_over if word not in inside]
        cells.append(
            TableCell(
                place.row,
                place.column,
                place.row_span,
                place.column_span,
                _text(inside),
                _box(inside, place.box),
            )
        )
    return cells


# ---- without ------------------------------------------------------------------------------------


def _open_cells(words: Sequence[Word], rules: Rules, unit: float) -> list[TableCell]:
    rows = rows_of(phrases_of(words, rules, unit))
    gaps = column_gaps(rows, unit)
    edges = [(left + right) / 2 for left, right in gaps]
    rows = _joined(rows, edges, unit)
    cells: list[TableCell] = []
    kept = [row for row in rows if not _is_half_way(row, rows, edges)]
    for number, row in enumerate(kept):
        below = kept[number + 1] if number + 1 < len(kept) else None
        cells += _row_cells(number, row, below, edges, rows, unit)
    for row in rows:
        if row not in kept:
            cells += _spanning_rows(row, kept, edges)
    return cells


def phrases_of(words: Sequence[Word], rules: Rules, unit: float) -> list[Word]:
    """Words with no more than a space between them, unless a vertical rule is."""
    phrases: list[Word] = []
    for word in sorted(words, key=lambda one: (one.left, one.top)):
        before = next(
            (
                phrase
                for phrase in phrases
                if are_in_a_row(phrase, word)
                and -unit < word.left - phrase.right < _WORD_GAP * unit
                and not rules.divide(phrase, word)
            ),
            None,
        )
        if before is None:
            phrases.append(word)
        else:
            box = enclosing([before, word])
            text = f"{before.text} {word.text}"
            joined = Word(box.left, box.top, box.right, box.bottom, text)
            phrases[phrases.index(before)] = joined
    return phrases


def rows_of(phrases: Iterable[Word]) -> list[Row]:
    """Rows from top to bottom."""
    rows: list[Row] = []
    for phrase in sorted(phrases, key=lambda one: (one.top + one.bottom, one.left)):
        if rows and are_in_a_row(rows[-1].phrases[-1], phrase):
            rows[-1].phrases.append(phrase)
        else:
            rows.append(Row([phrase]))
    for row in rows:
        row.phrases.sort(key=lambda one: one.left)
    return rows


def column_gaps(rows: Sequence[Row], unit: float) -> list[tuple[float, float]]:
    """The horizontal ranges between columns, left to right."""
    allowed = max(int(_CROSSING * len(rows)), 1 if len(rows) > 3 else 0)
    sides = sorted({side for row in rows for p in row.phrases for side in (p.left, p.right)})
    ranges: list[tuple[float, float, int]] = []
    for left, right in pairwise(sides):
        middle = (left + right) / 2
        crossing = sum(any(p.left < middle < p.right for p in row.phrases) for row in rows)
        if crossing > allowed:
            continue
        if ranges and ranges[-1][1] == left:
            before = ranges[-1]
            if crossing == before[2]:
                ranges[-1] = (before[0], right, crossing)
            elif crossing < before[2] or before[1] - before[0] < _COLUMN_GAP * unit:
                ranges[-1] = (left, right, crossing) if crossing < before[2] else before
            continue
        ranges.append((left, right, crossing))
    return [(left, right) for left, right, _ in ranges if right - left >= _COLUMN_GAP * unit]


def _column(x: float, edges: Sequence[float]) -> int:
    return sum(edge < x for edge in edges)


def _columns(phrase: Word, edges: Sequence[float]) -> range:
    """Those that a phrase reaches into."""
    return range(_column(phrase.left, edges), _column(phrase.right, edges) + 1)


def _joined(rows: Sequence[Row], edges: Sequence[float], unit: float) -> list[Row]:
    """Rows, with the further lines of wrapped cells put to their first."""
    distances = [below.middle - above.middle for above, below in pairwise(rows)]
    usual = median(distances) if distances else 0.0
    largest = max(distances, default=0.0)
    tight = _TIGHT * largest if largest > 1.9 * unit else 0.0
    joined: list[Row] = []
    for row in rows:
        columns = {c for phrase in row.phrases for c in _columns(phrase, edges)}
        if joined and 0 not in columns and tight:
            above = joined[-1]
            there = {c for phrase in above.phrases for c in _columns(phrase, edges)}
            distance = row.middle - max(p.top + p.bottom for p in above.phrases) / 2
            if columns <= there and distance < min(tight, usual + unit):
                above.phrases.extend(row.phrases)
                continue
        joined.append(Row(list(row.phrases)))
    return joined


def _is_half_way(row: Row, rows: Sequence[Row], edges: Sequence[float]) -> bool:
    """Whether it lies between two rows that are neighbours: its cells span both."""
    place = rows.index(row)
    if not 0 < place < len(rows) - 1:
        return False
    above, below = rows[place - 1], rows[place + 1]
    own = {c for phrase in row.phrases for c in _columns(phrase, edges)}
    around = {c for r in (above, below) for p in r.phrases for c in _columns(p, edges)}
    distances = [lower.middle - upper.middle for upper, lower in pairwise(rows[place + 1 :])]
    usual = median(distances) if distances else 0.0
    return not own & around and below.middle - above.middle < _HALF_WAY * usual


def _spanning_rows(row: Row, kept: Sequence[Row], edges: Sequence[float]) -> list[TableCell]:
    first = max(n for n, other in enumerate(kept) if other.middle < row.middle)
    return [
        TableCell(first, _columns(p, edges)[0], 2, len(_columns(p, edges)), p.text, _box([p], p))
        for p in row.phrases
    ]


def _row_cells(
    number: int,
    row: Row,
    below: Row | None,
    edges: Sequence[float],
    rows: Sequence[Row],
    unit: float,
) -> list[TableCell]:
    spans = [_columns(phrase, edges) for phrase in row.phrases]
    if below is not None and _heads(row, below, edges, rows, unit):
        spans = _shared_out(row, below, edges)
    cells: list[TableCell] = []
    for phrase, span in sorted(zip(row.phrases, spans, strict=True), key=lambda one: one[1][0]):
        last = cells[-1] if cells else None
        if last is not None and span[0] < last.column + last.column_span:
            # The next line of a wrapped cell, or what a span reaches into.
            text = f"{last.text} {phrase.text}"
            cells[-1] = replace(last, text=text, box=enclosing([last.box, phrase]))
        else:
            box = _box([phrase], phrase)
            cells.append(TableCell(number, span[0], 1, len(span), phrase.text, box))
    return cells


def _heads(row: Row, below: Row, edges: Sequence[float], rows: Sequence[Row], unit: float) -> bool:
    """Whether a row has fewer cells than the one below, and some stand between its columns."""
    if not len(row.phrases) < len(below.phrases) or row.middle > rows[0].middle + unit:
        return False
    others = [phrase for other in rows if other is not row for phrase in other.phrases]
    return any(
        len(_columns(phrase, edges)) > 1
        or not any(_is_aligned(phrase, other, unit) for other in others)
        for phrase in row.phrases
    )


def _is_aligned(one: Box, other: Box, unit: float) -> bool:
    near = _ALIGNED * unit
    return (
        abs(one.left - other.left) < near
        or abs(one.right - other.right) < near
        or abs(one.left + one.right - other.left - other.right) < near
    )


def _shared_out(row: Row, below: Row, edges: Sequence[float]) -> list[range]:
    """To each heading the columns below that are nearest to its middle.

    The first column, with the names of the rows, is left empty unless a heading reaches into it.
    """
    middles = [(phrase.left + phrase.right) / 2 for phrase in row.phrases]
    owners: list[set[int]] = [{_column(middle, edges)} for middle in middles]
    taken = set[int]().union(*owners)
    for phrase in below.phrases:
        column = _column((phrase.left + phrase.right) / 2, edges)
        at = (phrase.left + phrase.right) / 2
        nearest = min(range(len(middles)), key=lambda n: abs(middles[n] - at))
        if column not in taken and (column or row.phrases[nearest].left < edges[0]):
            owners[nearest].add(column)
    return [range(min(columns), max(columns) + 1) for columns in owners]


# ---- both ---------------------------------------------------------------------------------------


def _text(words: Sequence[Word]) -> str:
    return " ".join(word.text for row in rows_of(words) for word in row.phrases)


def _box(words: Sequence[Box], otherwise: Box) -> Box:
    return (
        enclosing(words)
        if words
        else Box(otherwise.left, otherwise.top, otherwise.right, otherwise.bottom)
    )


def _finished(cells: Sequence[TableCell]) -> TableGrid:
    """Without empty rows and columns, and with the header marked."""
    filled = [cell for cell in cells if cell.text]
    used_rows = sorted({cell.row for cell in filled})
    used_columns = sorted({cell.column for cell in filled})
    if not filled:
        return TableGrid(0, 0, ())
    row_at = {row: number for number, row in enumerate(used_rows)}
    column_at = {column: number for number, column in enumerate(used_columns)}
    result: list[TableCell] = []
    for cell in cells:
        rows = [row_at[r] for r in range(cell.row, cell.row + cell.row_span) if r in row_at]
        columns = [
            column_at[c]
            for c in range(cell.column, cell.column + cell.column_span)
            if c in column_at
        ]
        if rows and columns:
            result.append(
                replace(
                    cell,
                    row=rows[0],
                    column=columns[0],
                    row_span=len(rows),
                    column_span=len(columns),
                )
            )
    result += _empty_cells(result, len(used_rows), len(used_columns))
    header = _header_rows(result, len(used_columns)) if len(used_rows) > 1 else 0
    ordered = sorted(result, key=lambda cell: (cell.row, cell.column))
    return TableGrid(
        len(used_rows),
        len(used_columns),
        tuple(replace(cell, is_header=cell.row < header) for cell in ordered),
    )


def _empty_cells(cells: Sequence[TableCell], rows: int, columns: int) -> list[TableCell]:
    """One for each place that no cell covers."""
    covered = {
        (row, column)
        for cell in cells
        for row in range(cell.row, cell.row + cell.row_span)
        for column in range(cell.column, cell.column + cell.column_span)
    }
    around = enclosing([cell.box for cell in cells])
    corner = Box(around.left, around.top, around.left, around.top)
    return [
        TableCell(row, column, 1, 1, "", corner)
        for row in range(rows)
        for column in range(columns)
        if (row, column) not in covered
    ]


def _header_rows(cells: Sequence[TableCell], columns: int) -> int:
    """One, or two where cells of the first row span rows or some of the columns."""
    first = [cell for cell in cells if cell.row == 0]
    tall = max((cell.row_span for cell in first), default=1)
    wide = any(1 < cell.column_span < columns for cell in first)
    return max(min(tall, 3), 2 if wide else 1)
