"""How close a converted document is to its reference: figures from 0 to 1, 1 being right.

``teds`` is the tree edit distance based similarity of Zhong et al., "Image-based table
recognition: data, model, and evaluation" (2020), of the structure alone: rows, cells and what
they span, without their text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from apted import APTED, Config
from docling_core.types.doc.document import DoclingDocument
from docling_core.types.doc.items.picture.picture import PictureItem
from docling_core.types.doc.items.table.table import TableItem
from docling_core.types.doc.items.table.table_data import TableData
from docling_core.types.doc.items.text import TextItem
from docling_core.types.doc.labels import DocItemLabel
from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

_SAME_TEXT = 85  # percent of similarity from which two texts match
_SAME_TABLE = 60
_PLACED = 70
_HEADINGS = (DocItemLabel.SECTION_HEADER, DocItemLabel.TITLE)
_ORDERED = (*_HEADINGS, DocItemLabel.TEXT, DocItemLabel.PARAGRAPH, DocItemLabel.LIST_ITEM)


@dataclass(frozen=True)
class Found:
    """How many of the expected things were found, and how many were found in all."""

    right: int = 0
    expected: int = 0
    found: int = 0

    def __add__(self, other: Found) -> Found:
        return Found(
            self.right + other.right, self.expected + other.expected, self.found + other.found
        )

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall; None where there is nothing to find."""
        total = self.expected + self.found
        return 2 * self.right / total if total else None


@dataclass(frozen=True)
class Scores:
    """The figures of one document. ``teds`` has one for each table of the reference."""

    headings: Found
    list_items: Found
    tables: Found
    pictures: Found
    captions: Found
    teds: tuple[float, ...]
    order: float
    text: float


def scores(reference: DoclingDocument, converted: DoclingDocument) -> Scores:
    """Compare a converted document with its reference."""
    pairs = _table_pairs(reference.tables, converted.tables)
    pictures = len(reference.pictures), len(converted.pictures)
    return Scores(
        headings=_matches(_texts(reference, _HEADINGS), _texts(converted, _HEADINGS)),
        list_items=_matches(
            _texts(reference, (DocItemLabel.LIST_ITEM,)),
            _texts(converted, (DocItemLabel.LIST_ITEM,)),
        ),
        tables=Found(
            sum(other is not None for _, other in pairs),
            len(reference.tables),
            len(converted.tables),
        ),
        pictures=Found(min(pictures), *pictures),
        captions=_matches(_captions(reference), _captions(converted)),
        teds=tuple(
            teds(table.data, other.data) if other is not None else 0.0 for table, other in pairs
        ),
        order=order(_texts(reference, _ORDERED), _parts(converted)),
        text=Levenshtein.normalized_similarity(
            " ".join(_parts(reference)), " ".join(_parts(converted))
        ),
    )


def teds(reference: TableData, converted: TableData) -> float:
    """The similarity of two tables' structures."""
    trees = [_tree(table) for table in (reference, converted)]
    distance = APTED(*trees, _Renaming()).compute_edit_distance()
    return float(1 - distance / max(_size(tree) for tree in trees))


def order(texts: Sequence[str], parts: Sequence[str]) -> float:
    """The share of pairs of ``texts`` that follow each other in ``parts`` as they should.

    A text is located at the part that is like it, else where the parts together contain something
    like it. Texts that are missing do not count.
    """
    places = [_place(text, parts) for text in texts]
    known = [place for place in places if place is not None]
    pairs = list(combinations(known, 2))
    return sum(a < b for a, b in pairs) / len(pairs) if pairs else 1.0


def _place(text: str, parts: Sequence[str]) -> int | None:
    like = max(range(len(parts)), key=lambda n: fuzz.ratio(_plain(text), parts[n]), default=0)
    if parts and fuzz.ratio(_plain(text), parts[like]) >= _PLACED:
        return sum(len(part) + 1 for part in parts[:like])
    found = fuzz.partial_ratio_alignment(_plain(text), " ".join(parts), score_cutoff=_PLACED)
    return None if found is None else int(found.dest_start)


@dataclass(eq=False)
class _Node:
    name: tuple[Any, ...]
    children: list[_Node]


class _Renaming(Config):  # type: ignore[misc]
    def rename(self, one: _Node, other: _Node) -> int:
        return int(one.name != other.name)

    def children(self, node: _Node) -> list[_Node]:
        return node.children


def _tree(table: TableData) -> _Node:
    rows: list[_Node] = [_Node(("row",), []) for _ in range(table.num_rows)]
    for cell in sorted(
        table.table_cells, key=lambda c: (c.start_row_offset_idx, c.start_col_offset_idx)
    ):
        node = _Node(("cell", cell.row_span, cell.col_span), [])
        rows[cell.start_row_offset_idx].children.append(node)
    return _Node(("table",), rows)


def _size(node: _Node) -> int:
    return 1 + sum(_size(child) for child in node.children)


def _table_pairs(
    references: Sequence[TableItem], converted: Sequence[TableItem]
) -> list[tuple[TableItem, TableItem | None]]:
    """Each table of the reference with the one that has most of its text, if any has enough."""
    left = list(converted)
    pairs: list[tuple[TableItem, TableItem | None]] = []
    for table in references:
        text = _cell_texts(table)
        best = max(left, key=lambda other: _similar(text, _cell_texts(other)), default=None)
        if best is not None and _similar(text, _cell_texts(best)) >= _SAME_TABLE:
            left.remove(best)
            pairs.append((table, best))
        else:
            pairs.append((table, None))
    return pairs


def _cell_texts(table: TableItem) -> str:
    return " ".join(_plain(cell.text) for cell in table.data.table_cells if cell.text)


def _similar(one: str, other: str) -> float:
    return (
        fuzz.token_set_ratio(one, other)
        if min(len(one), len(other)) * 3 > max(len(one), len(other))
        else 0.0
    )


def _matches(expected: Sequence[str], found: Sequence[str]) -> Found:
    left = [_plain(text) for text in found]
    right = 0
    for text in map(_plain, expected):
        best = max(left, key=lambda other: fuzz.ratio(text, other), default=None)
        if best is not None and fuzz.ratio(text, best) >= _SAME_TEXT:
            left.remove(best)
            right += 1
    return Found(right, len(expected), len(found))


def _texts(document: DoclingDocument, labels: Sequence[DocItemLabel]) -> list[str]:
    return [
        item.text
        for item, _ in document.iterate_items()
        if isinstance(item, TextItem) and item.label in labels
    ]


def _captions(document: DoclingDocument) -> list[str]:
    """Captions that are tied to a picture or a table."""
    return [
        item.caption_text(document)
        for item, _ in document.iterate_items()
        if isinstance(item, PictureItem | TableItem) and item.captions
    ]


def _parts(document: DoclingDocument) -> list[str]:
    """All text in reading order, tables included, captions and page furniture not."""
    parts: list[str] = []
    for item, _ in document.iterate_items():
        if isinstance(item, TableItem):
            parts.append(_cell_texts(item))
        elif isinstance(item, TextItem) and item.label in _ORDERED:
            parts.append(_plain(item.text))
    return parts


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
