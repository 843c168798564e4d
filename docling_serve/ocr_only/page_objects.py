"""Tables and pictures of a page: which of the seen regions count, and their exact boxes.

A detector's boxes cut letters at their edges and take a caption in. Here they grow to the lines
they cut, and end where a caption begins. No imports but our own geometry.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .boxes import Box, are_in_a_row, area, covered, enclosing, nested
from .text_blocks import Line

ObjectKind = Literal["table", "picture"]

#: How captions begin in the languages that use Latin letters most.
CAPTION_START = re.compile(
    r"^(fig(ure|ura|\.)?|tab(le|elle|leau|la|\.)?|abb(ildung|\.)|chart|plate)\s*"
    r"(\d|[ivx]+\b|[a-z]?\.?\d)",
    re.IGNORECASE,
)
_ONE_OBJECT = 0.6  # so much of the smaller box within the larger
_INSIDE = 0.5
_SMALLEST_PICTURE = 24.0  # points
_BACKGROUND = 0.8  # a bitmap that covers so much of the page is the page itself
_PROSE_LINES = 3  # at least this long, in multiples of their height:
_LONG_LINE = 9.0
_PROSE_SHARE = 0.25


@dataclass(frozen=True)
class TextLine(Line):
    """A line with what is written in it.

    ``font`` is the name of its font, empty if unknown. ``weight`` is the mean width of its strokes
    in points, 0 if unknown.
    """

    text: str
    font: str = ""
    weight: float = 0.0

    @property
    def is_exact(self) -> bool:
        """Whether its box is that of its font, and not of its letters as OCR found them."""
        return bool(self.font)


@dataclass(frozen=True)
class PageObject:
    """A table or a picture, with the lines inside it."""

    kind: ObjectKind
    score: float
    box: Box
    lines: tuple[TextLine, ...] = ()


def page_objects(
    lines: Sequence[TextLine], seen: Sequence[PageObject], bitmaps: Sequence[Box], page: Box
) -> list[PageObject]:
    """The tables and pictures among what was ``seen``, and the ``bitmaps`` that nothing covers.

    Every line is in one of them at most.
    """
    found = _one_each(seen)
    found = _with_bitmaps(found, bitmaps, page)
    found = [_fitted(each, lines) for each in found]
    taken: set[int] = set()
    kept = []
    for each in found:
        own = tuple(line for line in each.lines if line.index not in taken)
        alone = replace(each, lines=own)
        if not (_is_no_grid(alone) if each.kind == "table" else _is_prose(alone)):
            taken.update(line.index for line in own)
            kept.append(alone)
    return kept


def _one_each(seen: Sequence[PageObject]) -> list[PageObject]:
    kept: list[PageObject] = []
    for each in sorted(seen, key=lambda one: -one.score):
        rival = next((k for k in kept if nested(k.box, each.box) > _ONE_OBJECT), None)
        if rival is None:
            kept.append(each)
        elif rival.kind == each.kind:
            kept[kept.index(rival)] = replace(rival, box=enclosing([rival.box, each.box]))
    return kept


def _with_bitmaps(found: list[PageObject], bitmaps: Sequence[Box], page: Box) -> list[PageObject]:
    """A bitmap on a page with a text layer is a picture, and its box is exact."""
    result = list(found)
    for bitmap in bitmaps:
        if min(bitmap.width, bitmap.height) < _SMALLEST_PICTURE:
            continue
        if area(bitmap) > _BACKGROUND * area(page):
            continue
        rival = next((one for one in result if nested(one.box, bitmap) > _ONE_OBJECT), None)
        if rival is None:
            result.append(PageObject("picture", 1.0, bitmap))
        elif rival.kind == "picture":
            result[result.index(rival)] = replace(
                rival, box=bitmap if covered(bitmap, rival.box) > _ONE_OBJECT else rival.box
            )
    return result


def _fitted(found: PageObject, lines: Sequence[TextLine]) -> PageObject:
    box = _without_captions(found.box, lines)
    inside = [line for line in lines if covered(line, box) > _INSIDE and not _is_caption(line)]
    if found.kind == "table" and inside:
        # Growing to a line may cut the next one: a second look is enough.
        box = enclosing([box, *inside])
        inside = [line for line in lines if covered(line, box) > _INSIDE and not _is_caption(line)]
    if inside:
        box = enclosing([box, *inside])
    return replace(found, box=box, lines=tuple(inside))


def _without_captions(box: Box, lines: Sequence[TextLine]) -> Box:
    for line in lines:
        if not _is_caption(line) or covered(line, box) <= _INSIDE:
            continue
        if line.middle > (box.top + box.bottom) / 2:
            box = replace(box, bottom=min(box.bottom, line.top))
        else:
            box = replace(box, top=max(box.top, line.bottom))
    return box


def _is_caption(line: TextLine) -> bool:
    return CAPTION_START.match(line.text.strip()) is not None


def _is_no_grid(found: PageObject) -> bool:
    """Whether a table is none: no two of its rows have cells side by side."""
    rows: list[list[TextLine]] = []
    for line in found.lines:
        row = next((row for row in rows if are_in_a_row(row[0], line)), None)
        if row is None:
            rows.append([line])
        else:
            row.append(line)
    return sum(len(row) > 1 for row in rows) < 2


def _is_prose(found: PageObject) -> bool:
    """Whether a picture is none: what is written in it must not be lost."""
    long = [line for line in found.lines if line.width > _LONG_LINE * line.height]
    inked = sum(area(line) for line in found.lines)
    return len(long) >= _PROSE_LINES or inked > _PROSE_SHARE * area(found.box)
