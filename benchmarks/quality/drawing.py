"""Draw documents as PDFs with a text layer, byte for byte the same every time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from .content import Block, DrawnDocument, Figure, Grid, Heading, Items, Paragraph, Section

PAGE = (595.0, 842.0)  # A4 in points
MARGIN = 62.0
GUTTER = 24.0
_LEADING = 1.25
_HEADING_SIZES = (1.7, 1.35, 1.15)
_PADDING = 4.0
_FACES = {
    "Helvetica": ("Helvetica", "Helvetica-Bold"),
    "Times": ("Times-Roman", "Times-Bold"),
}


@dataclass
class _Column:
    left: float
    width: float
    top: float  # y of the next line's top, counted from the page's bottom


def pdf_of(document: DrawnDocument) -> bytes:
    """The document as a PDF with a text layer."""
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=PAGE, invariant=1)
    _Drawing(canvas, document).draw()
    canvas.save()
    return out.getvalue()


class _Drawing:
    def __init__(self, canvas: Canvas, document: DrawnDocument) -> None:
        self._canvas = canvas
        self._document = document
        self._plain, self._bold = _FACES[document.face]
        self._size = document.size
        self._bottom = MARGIN + 2 * self._size
        self._page = 0

    def draw(self) -> None:
        top = self._begin_page()
        for section in self._document.sections:
            top = self._section(section, top)
        self._canvas.showPage()

    def _begin_page(self) -> float:
        if self._page:
            self._canvas.showPage()
        self._page += 1
        small = self._size * 0.85
        width, height = PAGE
        if self._document.header:
            self._canvas.setFont(self._plain, small)
            self._canvas.drawString(MARGIN, height - 36, self._document.header)
        if self._document.footer:
            self._canvas.setFont(self._plain, small)
            text = f"{self._document.footer} {self._page}"
            self._canvas.drawCentredString(width / 2, 30, text)
        return height - MARGIN

    def _section(self, section: Section, top: float) -> float:
        """Draw it below ``top``; returns the y below its longest column."""
        columns = self._columns(section.columns, top)
        heights = [self._block(block, columns[0], dry=True) for block in section.blocks]
        left_over = sum(heights)
        aim = top - left_over / section.columns  # balanced, as a typesetter does
        current, lowest = columns.pop(0), top
        for block, height in zip(section.blocks, heights, strict=True):
            limit = max(aim, self._bottom) if columns else self._bottom
            started = current.top < top
            too_long = current.top - height < self._bottom
            if (columns and started and current.top - height / 2 < limit) or too_long:
                if not columns:
                    top = self._begin_page()
                    columns = self._columns(section.columns, top)
                    aim, lowest = top - left_over / section.columns, top
                current = columns.pop(0)
            self._block(block, current)
            left_over -= height
            lowest = min(lowest, current.top)
        return lowest

    def _columns(self, count: int, top: float) -> list[_Column]:
        width = (PAGE[0] - 2 * MARGIN - GUTTER * (count - 1)) / count
        return [_Column(MARGIN + n * (width + GUTTER), width, top) for n in range(count)]

    def _block(self, block: Block, column: _Column, *, dry: bool = False) -> float:
        """Draw a block and move the column's top below it; returns its height."""
        at = _Column(column.left, column.width, column.top)
        if isinstance(block, Heading):
            size = self._size * _HEADING_SIZES[block.level - 1]
            at.top -= size * 0.6
            self._lines(block.text, at, self._bold, size, dry=dry)
            at.top -= size * 0.25
        elif isinstance(block, Paragraph):
            self._lines(block.text, at, self._plain, self._size, dry=dry)
            at.top -= self._size * 0.7
        elif isinstance(block, Items):
            self._items(block, at, dry=dry)
        elif isinstance(block, Grid):
            self._table(block, at, dry=dry)
        else:
            self._figure(block, at, dry=dry)
        height = column.top - at.top
        if not dry:
            column.top = at.top
        return height

    def _lines(
        self, text: str, at: _Column, font: str, size: float, *, indent: float = 0.0, dry: bool
    ) -> None:
        for line in wrapped(text, font, size, at.width - indent):
            if not dry:
                self._canvas.setFont(font, size)
                self._canvas.drawString(at.left + indent, at.top - size, line)
            at.top -= size * _LEADING

    def _items(self, block: Items, at: _Column, *, dry: bool) -> None:
        indent = self._size * 1.6
        for number, text in enumerate(block.texts, start=1):
            marker = f"{number}." if block.numbered else "\u2022"
            if not dry:
                self._canvas.setFont(self._plain, self._size)
                self._canvas.drawString(at.left + 3, at.top - self._size, marker)
            self._lines(text, at, self._plain, self._size, indent=indent + 3, dry=dry)
            at.top -= self._size * 0.25
        at.top -= self._size * 0.5

    def _caption(self, text: str, at: _Column, *, dry: bool) -> None:
        if text:
            self._lines(text, at, self._plain, self._size * 0.9, dry=dry)

    def _table(self, grid: Grid, at: _Column, *, dry: bool) -> None:
        at.top -= self._size * 0.4
        self._caption(grid.caption, at, dry=dry)
        at.top -= self._size * 0.4
        shares = grid.shares or (1.0,) * grid.columns
        edges = [at.left, *(at.left + at.width * s / sum(shares) for s in accumulate(shares))]
        size = self._size * 0.95
        heights = [0.0] * len(grid.rows)
        for placed in grid.placed():
            cell = placed.cell
            width = edges[placed.column + cell.colspan] - edges[placed.column] - 2 * _PADDING
            lines = list(wrapped(cell.text, self._plain, size, width))
            if cell.rowspan == 1:
                needed = len(lines) * size * _LEADING + 2 * _PADDING
                heights[placed.row] = max(heights[placed.row], needed)
        tops = [at.top, *(at.top - below for below in accumulate(heights))]
        if not dry:
            self._cells(grid, edges, tops, size)
            self._rules(grid, edges, tops)
        at.top = tops[-1] - self._size * 0.9

    def _cells(self, grid: Grid, edges: list[float], tops: list[float], size: float) -> None:
        for placed in grid.placed():
            cell = placed.cell
            font = self._bold if placed.row < grid.header_rows else self._plain
            left, right = edges[placed.column], edges[placed.column + cell.colspan]
            top, bottom = tops[placed.row], tops[placed.row + cell.rowspan]
            lines = list(wrapped(cell.text, font, size, right - left - 2 * _PADDING))
            y = top - _PADDING
            if cell.rowspan > 1:  # in the middle of what it spans
                y = (top + bottom + len(lines) * size * _LEADING) / 2
            self._canvas.setFont(font, size)
            for line in lines:
                if cell.colspan > 1:
                    self._canvas.drawCentredString((left + right) / 2, y - size, line)
                else:
                    self._canvas.drawString(left + _PADDING, y - size, line)
                y -= size * _LEADING

    def _rules(self, grid: Grid, edges: list[float], tops: list[float]) -> None:
        self._canvas.setLineWidth(0.7)
        if grid.rules == "horizontal":
            for y in (tops[0], tops[grid.header_rows], tops[-1]):
                self._canvas.line(edges[0], y, edges[-1], y)
        elif grid.rules == "all":
            for placed in grid.placed():
                left, right = edges[placed.column], edges[placed.column + placed.cell.colspan]
                top, bottom = tops[placed.row], tops[placed.row + placed.cell.rowspan]
                self._canvas.rect(left, bottom, right - left, top - bottom)

    def _figure(self, figure: Figure, at: _Column, *, dry: bool) -> None:
        at.top -= self._size * 0.4
        bottom = at.top - figure.height
        if not dry:
            if figure.kind == "photo":
                image = ImageReader(_photo(seed=len(figure.caption)))
                self._canvas.drawImage(image, at.left, bottom, at.width, figure.height)
            else:
                self._chart(at.left, bottom, at.width, figure.height)
        at.top = bottom - self._size * 0.5
        self._caption(figure.caption, at, dry=dry)
        at.top -= self._size * 0.9

    def _chart(self, left: float, bottom: float, width: float, height: float) -> None:
        canvas = self._canvas
        canvas.setLineWidth(1)
        canvas.line(left + 20, bottom + 15, left + 20, bottom + height)
        canvas.line(left + 20, bottom + 15, left + width, bottom + 15)
        bars = 7
        step = (width - 40) / bars
        for number in range(bars):
            grey = 0.3 + 0.08 * number
            canvas.setFillColorRGB(grey, grey, 0.8)
            tall = (height - 30) * (0.25 + 0.7 * ((number * 5) % bars) / bars)
            canvas.rect(left + 30 + number * step, bottom + 15, step * 0.7, tall, fill=1)
        canvas.setFillColorRGB(0, 0, 0)
        canvas.setFont(self._plain, 6.5)
        for number in range(bars):
            canvas.drawString(left + 30 + number * step, bottom + 5, str(2010 + number))


def _photo(seed: int) -> Image.Image:
    """Soft shapes and grain, in colour."""
    grain = np.random.default_rng(seed)
    y, x = np.mgrid[0:180, 0:260]
    pixels = np.zeros((180, 260, 3))
    pixels[..., 2] = 150 + 60 * np.cos(y / 60)
    pixels[..., 1] = 90 + 70 * np.sin(x / 50 + seed)
    pixels[..., 0] = 80 + y * 0.5
    pixels[(x - 90) ** 2 + (y - 80) ** 2 < 45**2] = (225, 190, 90)
    pixels[120:, 150:230] = (70, 60, 55)
    pixels += grain.normal(0, 9, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def wrapped(text: str, font: str, size: float, width: float) -> Iterator[str]:
    """The lines of ``text`` that are at most ``width`` points wide, where words allow it."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and stringWidth(longer, font, size) > width:
            yield line
            line = word
        else:
            line = longer
    if line:
        yield line
