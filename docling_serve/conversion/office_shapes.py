"""Refuse office files that expand enormously: far cells, repetitions, one picture used often.

Scans the packed XML piece by piece, without a parser: a name that appears elsewhere is not an
error, and a broken document fails where it is opened.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from docling_serve.conversion.document_limits import DocumentLimits, OverLimit

_PIECE_BYTES = 1024 * 1024
#: A sheet may have several tables, with room between them.
_TABLES_OF_A_SHEET = 5
#: No tag that is searched for is longer.
_OVERLAP_BYTES = 2048
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, ValueError, RuntimeError)

_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml")
_CELL = re.compile(rb'<(?:\w+:)?c [^>]*?\br="([A-Z]{1,3})(\d{1,7})"[^>]*?(/?)>')
_PICTURE = re.compile(rb"<(?:a:blip|draw:image|v:imagedata)\b")
_ODS = re.compile(
    rb"<table:(table-row|table-cell|covered-table-cell|table)\b([^>]*)>|</table:(table-row)>"
)
_ROWS = re.compile(rb'number-rows-repeated="(\d{1,9})"')
_COLUMNS = re.compile(rb'number-columns-repeated="(\d{1,9})"')


def check_office(document: BinaryIO, limits: DocumentLimits) -> None:
    """Raises ``OverLimit``; a file that is not a zip archive passes."""
    with suppress(*_BROKEN), zipfile.ZipFile(document) as archive:
        pictures = 0
        for name in archive.namelist():
            if not name.endswith(".xml"):
                continue
            if _SHEET.fullmatch(name):
                _check_sheet(archive, name, limits)
            if name == "content.xml":
                _check_ods(archive, name, limits)
            pictures += sum(1 for _ in _found(archive, name, _PICTURE))
            if pictures > limits.max_pictures:
                raise OverLimit(
                    f"The document shows more than {limits.max_pictures} pictures (max_pictures)."
                )


def _found(
    archive: zipfile.ZipFile, name: str, pattern: re.Pattern[bytes]
) -> Iterator[re.Match[bytes]]:
    """Each match of ``pattern`` in a file of the archive, in order."""
    with archive.open(name) as file:
        rest = b""
        while piece := file.read(_PIECE_BYTES):
            text = rest + piece
            at = 0
            for match in pattern.finditer(text):
                yield match
                at = match.end()
            rest = text[max(at, len(text) - _OVERLAP_BYTES) :]


def _check_sheet(archive: zipfile.ZipFile, name: str, limits: DocumentLimits) -> None:
    """The area between the cells with content that are farthest apart."""
    rows: list[int] = []
    columns: list[int] = []
    for match in _found(archive, name, _CELL):
        if match[3]:  # it has a style and nothing else
            continue
        row, column = int(match[2]), _number(match[1])
        if not rows:
            rows, columns = [row, row], [column, column]
        rows = [min(rows[0], row), max(rows[1], row)]
        columns = [min(columns[0], column), max(columns[1], column)]
        cells = (rows[1] - rows[0] + 1) * (columns[1] - columns[0] + 1)
        _check_span(cells, limits)


def _number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _check_ods(archive: zipfile.ZipFile, name: str, limits: DocumentLimits) -> None:
    """The area of the rows and cells of each sheet, with repetitions expanded, up to the last one
    with content."""
    rows = width = repeated = column = used = 0
    for match in _found(archive, name, _ODS):
        tag, attributes = match[1], match[2] or b""
        if tag == b"table":
            rows = width = 0
        elif tag == b"table-row":
            repeated, column, used = _times(_ROWS, attributes), 0, 0
        elif tag:
            column += _times(_COLUMNS, attributes)
            if not attributes.endswith(b"/"):
                used = column
        if match[3] or (tag == b"table-row" and attributes.endswith(b"/")):
            rows += repeated
            width = max(width, used)
            if used:
                _check_span(rows * width, limits)


def _check_span(cells: int, limits: DocumentLimits) -> None:
    at_most = _TABLES_OF_A_SHEET * limits.max_table_cells
    if cells > at_most:
        raise OverLimit(
            f"A sheet spans more than {at_most} cells, including empty ones"
            f" ({_TABLES_OF_A_SHEET} times max_table_cells)."
        )


def _times(pattern: re.Pattern[bytes], attributes: bytes) -> int:
    found = pattern.search(attributes)
    return int(found[1]) if found else 1
