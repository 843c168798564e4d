"""The content of a generated document: plain data, in reading order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Rules = Literal["all", "horizontal", "none"]


@dataclass(frozen=True)
class Heading:
    """A heading; ``level`` counts from 1."""

    text: str
    level: int = 1


@dataclass(frozen=True)
class Paragraph:
    """Prose, wrapped when it is drawn."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list; ``numbered`` items count from 1, others have bullets."""

    texts: tuple[str, ...]
    numbered: bool = False


@dataclass(frozen=True)
class Cell:
    """One cell of a table, with its spans."""

    text: str
    colspan: int = 1
    rowspan: int = 1


@dataclass(frozen=True)
class PlacedCell:
    """A cell and where it starts in the grid."""

    cell: Cell
    row: int
    column: int


@dataclass(frozen=True)
class Grid:
    """A table: rows as in HTML, so a row leaves out what a span above it covers."""

    rows: tuple[tuple[Cell | str, ...], ...]
    rules: Rules = "all"
    caption: str = ""
    header_rows: int = 1
    shares: tuple[float, ...] = ()
    """Widths of the columns, as shares of the whole; equal ones when empty."""

    def placed(self) -> Iterator[PlacedCell]:
        """Every cell with its row and column, row by row."""
        taken: set[tuple[int, int]] = set()
        for row, cells in enumerate(self.rows):
            column = 0
            for each in cells:
                cell = Cell(each) if isinstance(each, str) else each
                while (row, column) in taken:
                    column += 1
                yield PlacedCell(cell, row, column)
                taken |= {
                    (row + down, column + right)
                    for down in range(cell.rowspan)
                    for right in range(cell.colspan)
                }
                column += cell.colspan

    @property
    def columns(self) -> int:
        """How many columns the grid has."""
        return max(placed.column + placed.cell.colspan for placed in self.placed())


@dataclass(frozen=True)
class Figure:
    """A picture: a line chart, or something like a photograph. ``height`` is in points."""

    kind: Literal["chart", "photo"]
    caption: str = ""
    height: float = 150.0


Block = Heading | Paragraph | Items | Grid | Figure


@dataclass(frozen=True)
class Section:
    """Blocks that share a number of columns, filled one after the other."""

    blocks: tuple[Block, ...]
    columns: int = 1


@dataclass(frozen=True)
class DrawnDocument:
    """A document and how it looks. ``size`` is that of its prose, in points."""

    name: str
    sections: tuple[Section, ...]
    header: str = ""
    footer: str = ""
    face: Literal["Helvetica", "Times"] = "Helvetica"
    size: float = 10.0

    def blocks(self) -> Iterator[Block]:
        """All blocks in reading order."""
        for section in self.sections:
            yield from section.blocks
