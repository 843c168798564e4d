"""The grid that the ruling lines of a table make, cells that span others included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .boxes import Box, Boxed

_ONE_LINE = 3.5  # points between two rules that are drawn as one
_NARROWEST, _LOWEST = 6.0, 5.0  # of a cell
_DIVIDES = 0.6  # so much of a cell's side must a rule cover


@dataclass(frozen=True)
class Rules:
    """Ruling lines as thin boxes, in points."""

    horizontal: tuple[Box, ...] = ()
    vertical: tuple[Box, ...] = ()

    def divide(self, left: Boxed, right: Boxed) -> bool:
        """Whether a vertical rule stands between two boxes of a row."""
        middle = (left.top + left.bottom) / 2
        return any(
            rule.top < middle < rule.bottom
            and left.right - _ONE_LINE < (rule.left + rule.right) / 2 < right.left + _ONE_LINE
            for rule in self.vertical
        )


@dataclass(frozen=True)
class Place:
    """Where a cell is: the first row and column, and how many of each."""

    row: int
    column: int
    row_span: int
    column_span: int
    box: Box


def within(inner: Boxed, outer: Boxed) -> bool:
    """Whether the middle of ``inner`` lies in ``outer``."""
    x, y = (inner.left + inner.right) / 2, (inner.top + inner.bottom) / 2
    return outer.left <= x <= outer.right and outer.top <= y <= outer.bottom


def ruled_places(rules: Rules, box: Box) -> list[Place]:
    """The cells of a table with rules in both directions; none where it has too few."""
    xs = _positions([(r.left + r.right) / 2 for r in rules.vertical], _NARROWEST)
    ys = _positions([(r.top + r.bottom) / 2 for r in rules.horizontal], _LOWEST)
    if len(xs) < 2 or len(ys) < 2:
        return []
    # The outer rules may be left out on some sides, the inner ones not.
    xs = _with_ends(xs, box.left, box.right, _NARROWEST)
    ys = _with_ends(ys, box.top, box.bottom, _LOWEST)
    if len(xs) < 3 and len(ys) < 3:
        return []
    return _merged(rules, xs, ys)


def _positions(values: Iterable[float], apart: float) -> list[float]:
    groups: list[list[float]] = []
    for value in sorted(values):
        if groups and value - groups[-1][-1] <= max(_ONE_LINE, apart):
            groups[-1].append(value)
        else:
            groups.append([value])
    return [sum(group) / len(group) for group in groups]


def _with_ends(values: list[float], first: float, last: float, apart: float) -> list[float]:
    inner = list(values)
    if inner[0] - first > 2 * apart:
        inner.insert(0, first)
    if last - inner[-1] > 2 * apart:
        inner.append(last)
    return inner


def _merged(rules: Rules, xs: Sequence[float], ys: Sequence[float]) -> list[Place]:
    columns, rows = list(pairwise(xs)), list(pairwise(ys))
    group = {(r, c): (r, c) for r in range(len(rows)) for c in range(len(columns))}

    def root(place: tuple[int, int]) -> tuple[int, int]:
        while group[place] != place:
            place = group[place]
        return place

    for r, (top, bottom) in enumerate(rows):
        for c, (left, right) in enumerate(columns):
            if c + 1 < len(columns) and not _stands(rules.vertical, right, top, bottom):
                group[root((r, c + 1))] = root((r, c))
            if r + 1 < len(rows) and not _lies(rules.horizontal, bottom, left, right):
                group[root((r + 1, c))] = root((r, c))
    parts: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for place in group:
        parts.setdefault(root(place), []).append(place)
    return _places(parts.values(), rows, columns)


def _places(
    parts: Iterable[Sequence[tuple[int, int]]],
    rows: Sequence[tuple[float, float]],
    columns: Sequence[tuple[float, float]],
) -> list[Place]:
    places: list[Place] = []
    for part in parts:
        top, bottom = min(r for r, _ in part), max(r for r, _ in part)
        left, right = min(c for _, c in part), max(c for _, c in part)
        if len(part) < (bottom - top + 1) * (right - left + 1):
            return []  # not a rectangle: the rules are no grid
        box = Box(columns[left][0], rows[top][0], columns[right][1], rows[bottom][1])
        places.append(Place(top, left, bottom - top + 1, right - left + 1, box))
    return places


def _stands(rules: Sequence[Box], x: float, top: float, bottom: float) -> bool:
    spans = [(r.top, r.bottom) for r in rules if abs((r.left + r.right) / 2 - x) <= _NARROWEST]
    return _covers(spans, top, bottom)


def _lies(rules: Sequence[Box], y: float, left: float, right: float) -> bool:
    spans = [(r.left, r.right) for r in rules if abs((r.top + r.bottom) / 2 - y) <= _LOWEST]
    return _covers(spans, left, right)


def _covers(spans: Iterable[tuple[float, float]], start: float, end: float) -> bool:
    """Whether the spans together cover enough of the range."""
    length, reached = 0.0, start
    for first, last in sorted(spans):
        begins, ends = max(first, reached), min(last, end)
        if ends > begins:
            length += ends - begins
            reached = ends
    return length > _DIVIDES * (end - start)
