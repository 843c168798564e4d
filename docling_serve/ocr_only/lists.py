"""Find the items of lists among the lines of a page, by their markers. Geometry and text only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .boxes import are_in_a_row
from .page_objects import TextLine

_SURE_BULLET = re.compile(
    r"^[\u2022\u2023\u25E6\u2043\u2219\u25AA\u25AB\u25CF\u25CB\u25A0\u25B6\uF0B7]"
)
#: OCR reads bullets as these; dashes and asterisks are bullets, too, if there are several.
_WEAK_BULLET = re.compile(r"^[-\u2013\u2014*\u00B7\u30FB.\u00B0\u00A8](?=\s|[A-Za-z]|$)")
_NUMBER = re.compile(r"^\(?(\d{1,3}|[a-zA-Z])[.)](?!\d)")
_MARKER = re.compile(rf"(?:{_SURE_BULLET.pattern}|{_WEAK_BULLET.pattern}|{_NUMBER.pattern})")
_ALIGNED = 0.8  # multiples of a line's height
_CLOSE = 0.9
_DEEPEST_INDENT = 5.0
_LONGEST_ITEM = 14.0
_SAME_HEIGHT = 1.6


@dataclass
class _Item:
    marker: TextLine
    lines: list[TextLine] = field(default_factory=list)

    @property
    def last(self) -> TextLine:
        return max(self.lines, key=lambda line: line.bottom)


def list_items(lines: Sequence[TextLine]) -> tuple[list[list[TextLine]], list[TextLine]]:
    """The lines of each item, marker first, and the lines that are in none."""
    starts = _starts(lines)
    started = {line.index for line in starts}
    items = [_Item(line, [line]) for line in starts]
    rest = []
    for line in sorted(lines, key=lambda one: (one.top, one.left)):
        if line.index in started:
            continue
        owner = _owner(line, items)
        if owner is None:
            rest.append(line)
        else:
            owner.lines.append(line)
    alone = [item for item in items if len(item.lines) == 1 and _is_only_marker(item.marker)]
    rest.extend(item.marker for item in alone)
    return [item.lines for item in items if item not in alone], rest


def spaced(text: str) -> str:
    """A marker that OCR has put to its text, with a space between the two; bullets alike."""
    text = text.strip()
    found = _SURE_BULLET.match(text) or _WEAK_BULLET.match(text)
    if found is not None:
        return f"\u2022 {text[found.end() :].strip()}".strip()
    found = _NUMBER.match(text)
    return text if found is None else f"{found.group()} {text[found.end() :].strip()}".strip()


def _starts(lines: Sequence[TextLine]) -> list[TextLine]:
    sure = [line for line in lines if _SURE_BULLET.match(line.text.strip())]
    weak = [line for line in lines if _WEAK_BULLET.match(line.text.strip())]
    numbered = [line for line in lines if _NUMBER.match(line.text.strip())]
    starts = [*sure, *(line for line in weak if _has_fellow(line, [*sure, *weak]))]
    starts += [line for line in numbered if _has_neighbour(line, numbered)]
    return starts


def _has_fellow(line: TextLine, others: Sequence[TextLine]) -> bool:
    return any(other is not line and _is_aligned(line, other) for other in others)


def _has_neighbour(line: TextLine, others: Sequence[TextLine]) -> bool:
    """Whether the number before or after stands in the same column."""
    own = _value(line)
    return any(
        abs(_value(other) - own) == 1
        and _is_aligned(line, other)
        and abs(line.middle - other.middle) < _LONGEST_ITEM * line.height
        for other in others
    )


def _value(line: TextLine) -> int:
    found = _NUMBER.match(line.text.strip())
    number = found.group(1) if found else "0"
    return int(number) if number.isdigit() else 1000 + ord(number)


def _is_aligned(line: TextLine, other: TextLine) -> bool:
    return abs(line.left - other.left) <= _ALIGNED * max(line.height, other.height)


def _owner(line: TextLine, items: Sequence[_Item]) -> _Item | None:
    """The item that ``line`` continues: beside its marker, or below and indented."""
    for item in items:
        if (
            len(item.lines) == 1
            and _is_only_marker(item.marker)
            and are_in_a_row(line, item.marker)
            and 0 <= line.left - item.marker.right <= _DEEPEST_INDENT * line.height
        ):
            return item
    above = [item for item in items if _continues(line, item)]
    return max(above, key=lambda item: item.last.bottom, default=None)


def _continues(line: TextLine, item: _Item) -> bool:
    last, marker = item.last, item.marker
    indent = line.left - marker.left
    smaller, larger = sorted((line.height, last.height))
    return (
        0.4 * line.height < indent < _DEEPEST_INDENT * line.height
        and line.left < last.right
        and -0.5 * line.height < line.top - last.bottom < _CLOSE * line.height
        and larger < _SAME_HEIGHT * smaller
    )


def _is_only_marker(line: TextLine) -> bool:
    text = line.text.strip()
    found = _MARKER.match(text)
    return found is not None and found.end() == len(text)
