"""From the regions that were seen on a page and its lines of text to labelled blocks.

The lines decide where a block begins and ends, the regions what it is: boxes of a detector are
never exact, lines are. Typography helps where the detector is in doubt. Nothing here knows docling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import mean, median
from typing import Literal

from .boxes import (
    Box,
    Boxed,
    are_in_a_row,
    covered,
    enclosing,
    gap_below,
    gap_between,
    nested,
    shared,
)
from .lists import list_items
from .open_tables import open_tables
from .page_objects import CAPTION_START, PageObject, TextLine, page_objects
from .text_blocks import group_into_blocks

Label = Literal["text", "heading", "list_item", "caption", "header", "footer", "table", "picture"]

_MIN_COVER = 0.35
_INSTEAD = 0.6  # so much of a picture is a table
_WITHOUT_REGION = 0.6  # the confidence of a block that no region covers
FURNITURE_BAND = 0.12  # of the page's height, at the top and at the bottom
_MARGIN_BAND = 0.075
_CAPTION_DISTANCE = 2.5  # multiples of the height of the page's prose
_CAPTION_ROWS = 4
_UNNAMED_CAPTION = 90  # characters; longer ones without "Figure 1" or the like are prose
_HEADING_ROWS = 3
_SENTENCE = 60  # characters of a line that ends with a full stop
_LARGER_EXACT, _LARGER_READ = 1.1, 1.25
_MUCH_LARGER_EXACT, _MUCH_LARGER_READ = 1.25, 1.5
_HEAVIER = 1.1  # strokes of bold print, and of larger letters
_SPACE_ABOVE = 0.3  # multiples of a line's height
_BESIDE = 2.5
_SAME_HEADING_GAP = 0.9
_SAME_HEADING_SIZE = 1.12


@dataclass(frozen=True)
class SeenText:
    """A region of text: ``kind`` is what the detector calls it."""

    kind: str
    score: float
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Block:
    """Part of a page. ``score`` is from 0 to 1; the lines are in reading order."""

    label: Label
    box: Box
    score: float
    lines: tuple[TextLine, ...] = ()


@dataclass(frozen=True)
class PageContent:
    """What is known of a page; all boxes in one unit."""

    page: Box
    lines: Sequence[TextLine]
    objects: Sequence[PageObject] = ()
    texts: Sequence[SeenText] = ()
    bitmaps: Sequence[Box] = ()


def page_blocks(content: PageContent) -> list[Block]:
    """The blocks of a page, from top to bottom; every line with text is in one of them."""
    lines = [line for line in content.lines if line.text.strip()]
    objects = page_objects(lines, content.objects, content.bitmaps, content.page)
    objects = _with_open_tables(objects, lines)
    inside = {line.index for each in objects for line in each.lines}
    free = [line for line in lines if line.index not in inside]
    blocks = [Block(each.kind, each.box, each.score, each.lines) for each in objects]
    blocks += _PageText(content, free, objects).blocks()
    blocks = [_over_its_section(block, blocks) for block in blocks]
    return sorted(blocks, key=lambda block: (block.box.top, block.box.left))


def _over_its_section(block: Block, blocks: Sequence[Block]) -> Block:
    """A heading over a block that is wider than the columns above both gets that block's width.

    docling's reading order would take it for the end of the first of these columns.
    """
    if block.label != "heading":
        return block
    near = 2 * block.box.height
    below = [b for b in blocks if b is not block and 0 <= gap_below(block.box, b.box) < near]
    if not below:
        return block
    wide = max(below, key=lambda b: b.box.right).box
    widened = Box(block.box.left, block.box.top, wide.right, block.box.bottom)
    beside = any(b is not block and shared(b.box, widened) for b in blocks)
    return block if beside or wide.right <= block.box.right else replace(block, box=widened)


def _with_open_tables(objects: Sequence[PageObject], lines: Sequence[TextLine]) -> list[PageObject]:
    """Also tables without rules, in place of the pictures that a detector makes of them."""
    kept = list(objects)
    inside = {line.index for each in kept if each.kind == "table" for line in each.lines}
    for table in open_tables([line for line in lines if line.index not in inside]):
        hidden = [each for each in kept if nested(each.box, table.box) > _INSTEAD]
        if all(
            each.kind == "picture" and covered(each.box, table.box) > _INSTEAD for each in hidden
        ):
            kept = [each for each in kept if each not in hidden] + [table]
    return kept


class _PageText:
    """The text outside tables and pictures."""

    def __init__(
        self, content: PageContent, lines: Sequence[TextLine], objects: Sequence[PageObject]
    ) -> None:
        self._page = content.page
        self._lines = lines
        self._objects = objects
        self._seen = {line.index: _seen_at(line, content.texts) for line in lines}
        self._height = _usual_height(lines)
        self._font = _usual_font(lines)
        self._weight = _usual_weight(lines)

    def blocks(self) -> list[Block]:
        rest = list(self._lines)
        header, rest = _split(rest, self._is_header)
        footer, rest = _split(rest, self._is_footer)
        captions, rest = self._captions(rest)
        prominent, plain = _split(rest, self._is_prominent)
        items, plain = list_items(plain)
        headings, rest = self._headings([*prominent, *plain])
        more_items, rest = list_items(rest)
        items += more_items
        return [
            *self._labelled("header", group_into_blocks(header)),
            *self._labelled("footer", group_into_blocks(footer)),
            *self._labelled("caption", captions),
            *self._labelled("heading", headings),
            *self._labelled("list_item", items),
            *self._labelled("text", group_into_blocks(rest)),
        ]

    def _labelled(self, label: Label, groups: Iterable[Sequence[TextLine]]) -> list[Block]:
        return [
            Block(label, enclosing(group), self._score(group), tuple(group)) for group in groups
        ]

    def _score(self, lines: Sequence[TextLine]) -> float:
        regions = [self._seen[line.index] for line in lines]
        return mean(region.score if region else _WITHOUT_REGION for region in regions)

    def _kind(self, line: TextLine) -> str:
        region = self._seen[line.index]
        return region.kind if region else ""

    # ---- headers and footers

    def _is_header(self, line: TextLine) -> bool:
        band = self._page.top + FURNITURE_BAND * self._page.height
        if self._is_larger(line):  # the title of a page without a header
            return False
        return line.bottom < band and (
            self._kind(line) == "header" or (self._is_lonely(line) and not self._is_title(line))
        )

    def _is_footer(self, line: TextLine) -> bool:
        band = self._page.bottom - FURNITURE_BAND * self._page.height
        return line.top > band and (
            self._kind(line) in ("footer", "header")
            or (self._is_lonely(line) and not self._is_title(line))
        )

    def _is_lonely(self, line: TextLine) -> bool:
        """In the margin of the page, with only its own row near it."""
        margin = _MARGIN_BAND * self._page.height
        in_margin = line.bottom < self._page.top + margin or line.top > self._page.bottom - margin
        return in_margin and all(
            are_in_a_row(line, other)
            or max(other.top - line.bottom, line.top - other.bottom) > 1.5 * line.height
            for other in self._lines
            if other is not line
        )

    # ---- captions

    def _captions(self, lines: Sequence[TextLine]) -> tuple[list[list[TextLine]], list[TextLine]]:
        """Those tied to an object by their words, and those that only look like one."""
        likely, rest = _split(lines, lambda line: not self._is_title(line))
        groups = [group for group in group_into_blocks(likely) if len(group) <= _CAPTION_ROWS]
        groups = [part for group in groups for part in self._from_caption_start(group)]
        named = [group for group in groups if self._is_named_caption(group)]
        captioned = {self._nearest(group) for group in named}
        others = [
            group
            for group in groups
            if group not in named
            and all(self._kind(line).endswith("caption") for line in group)
            and len(" ".join(line.text for line in group)) <= _UNNAMED_CAPTION
            and self._nearest(group) not in {None, *captioned}
        ]
        found = [*named, *others]
        taken = {line.index for group in found for line in group}
        return found, [line for line in [*likely, *rest] if line.index not in taken]

    def _from_caption_start(self, group: list[TextLine]) -> list[list[TextLine]]:
        """A caption that follows prose closely is cut off from it."""
        starts = [n for n, line in enumerate(group) if _starts_caption(line)]
        return [group[: starts[0]], group[starts[0] :]] if starts and starts[0] else [group]

    def _is_named_caption(self, group: Sequence[TextLine]) -> bool:
        return bool(group) and _starts_caption(group[0]) and self._nearest(group) is not None

    def _nearest(self, group: Sequence[TextLine]) -> int | None:
        """Which object is near enough to have these lines as its caption."""
        if not group:
            return None
        box = enclosing(group)
        limit = _CAPTION_DISTANCE * self._height
        near = [(gap_between(box, each.box), number) for number, each in enumerate(self._objects)]
        return min((each for each in near if each[0] < limit), default=(0.0, None))[1]

    # ---- headings

    def _headings(self, lines: Sequence[TextLine]) -> tuple[list[list[TextLine]], list[TextLine]]:
        titles, rest = _split(lines, self._is_title)
        found: list[list[TextLine]] = []
        for line in sorted(titles, key=lambda one: (one.top, one.left)):
            group = next((g for g in reversed(found) if self._continues_heading(line, g)), None)
            if group is None:
                found.append([line])
            else:
                group.append(line)
        headings = [group for group in found if self._can_be_heading(group)]
        rest += [line for group in found if group not in headings for line in group]
        return headings, rest

    def _is_title(self, line: TextLine) -> bool:
        if self._kind(line) == "title":
            return True
        if self._is_much_larger(line):
            return True
        if self._is_heavy(line) or self._is_set_apart(line):
            return self._begins_a_part(line)
        return False

    def _is_much_larger(self, line: TextLine) -> bool:
        ratio = _MUCH_LARGER_EXACT if line.is_exact else _MUCH_LARGER_READ
        return line.height > ratio * self._height

    def _is_heavy(self, line: TextLine) -> bool:
        return line.weight > _HEAVIER * self._weight > 0

    def _is_set_apart(self, line: TextLine) -> bool:
        """In another font than the prose, with nothing beside it, where the detector saw nothing:
        on pages that are judged without it."""
        if not line.is_exact or line.font == self._font or self._seen[line.index] is not None:
            return False
        return not any(
            are_in_a_row(line, other)
            and max(line.left, other.left) - min(line.right, other.right) < _BESIDE * line.height
            for other in self._lines
            if other is not line
        )

    def _begins_a_part(self, line: TextLine) -> bool:
        """Short, alone in its column, and further from what is above than lines are."""
        text = line.text.strip()
        if len(text) > _SENTENCE or text.endswith((".", ",", ";")) or _starts_caption(line):
            return False
        above = [gap_below(other, line) for other in self._lines if other.middle < line.top]
        return min((gap for gap in above), default=float("inf")) > _SPACE_ABOVE * line.height

    def _is_prominent(self, line: TextLine) -> bool:
        other_font = line.font != self._font if line.is_exact else self._is_heavy(line)
        return self._is_larger(line) or other_font

    def _is_larger(self, line: TextLine) -> bool:
        ratio = _LARGER_EXACT if line.is_exact else _LARGER_READ
        return line.height > ratio * self._height

    def _continues_heading(self, line: TextLine, group: Sequence[TextLine]) -> bool:
        last = group[-1]
        smaller, larger = sorted((line.height, last.height))
        if larger > _SAME_HEADING_SIZE * smaller and line.is_exact:
            return False
        if self._is_prominent(line) != self._is_prominent(last):
            return False
        if are_in_a_row(line, last):
            return line.left - last.right < 2.5 * line.height
        return gap_between(line, last) < _SAME_HEADING_GAP * smaller

    def _can_be_heading(self, group: Sequence[TextLine]) -> bool:
        text = " ".join(line.text.strip() for line in group)
        if not any(char.isalpha() for char in text) or len(_rows(group)) > _HEADING_ROWS:
            return False
        if all(self._is_prominent(line) for line in group):
            return True
        ends = text.endswith((".", ":", ",", ";")) and len(text) > _SENTENCE
        return not ends and not self._runs_on(group)

    def _runs_on(self, group: Sequence[TextLine]) -> bool:
        """Whether the next line is as near as lines of a paragraph are."""
        box = enclosing(group)
        own = {line.index for line in group}
        return any(
            -0.5 * self._height < gap_below(box, line) < _SPACE_ABOVE * self._height
            for line in self._lines
            if line.index not in own and line.middle > box.bottom
        )


def _seen_at(line: TextLine, texts: Sequence[SeenText]) -> SeenText | None:
    covers = [(covered(line, region), region) for region in texts]
    return max(
        (each for each in covers if each[0] > _MIN_COVER),
        key=lambda each: each[0] * each[1].score,
        default=(0.0, None),
    )[1]


def _starts_caption(line: TextLine) -> bool:
    return CAPTION_START.match(line.text.strip()) is not None


def _split(
    lines: Sequence[TextLine], belongs: Callable[[TextLine], bool]
) -> tuple[list[TextLine], list[TextLine]]:
    """Those that belong, and the others."""
    chosen = [line for line in lines if belongs(line)]
    indexes = {line.index for line in chosen}
    return chosen, [line for line in lines if line.index not in indexes]


def _rows(lines: Sequence[Boxed]) -> list[Boxed]:
    """One line for each row."""
    rows: list[Boxed] = []
    for line in lines:
        if not any(are_in_a_row(line, row) for row in rows):
            rows.append(line)
    return rows


def _usual_height(lines: Sequence[TextLine]) -> float:
    """The height of most letters; zero without any."""
    heights = sorted((line.height, len(line.text)) for line in lines)
    half = sum(count for _, count in heights) / 2
    for height, count in heights:
        half -= count
        if half <= 0:
            return height
    return 0.0


def _usual_weight(lines: Sequence[TextLine]) -> float:
    weights = [line.weight for line in lines if line.weight for _ in line.text]
    return median(weights) if weights else 0.0


def _usual_font(lines: Sequence[TextLine]) -> str:
    letters: Counter[str] = Counter()
    for line in lines:
        letters[line.font] += len(line.text)
    return max(letters, key=lambda font: letters[font], default="")
