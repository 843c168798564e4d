"""The converted documents: generated ones, or the user's own."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import docx
import numpy as np
import openpyxl  # type: ignore[import-untyped]
import pptx
import pypdfium2
from PIL import Image

from examples import make_documents as samples

_IMAGES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}
_SHEET_ROWS = 40
_NOISE_PX = 3000


@dataclass(frozen=True)
class Document:
    """A file to send. ``pages`` is 0 where the format has none, or needs no OCR."""

    name: str
    content: bytes
    pages: int = 0


@cache
def scan(pages: int) -> Document:
    """A PDF of A4 pages at 150 dpi without a text layer; every page has its own noise."""
    kinds = samples.SCAN_PAGES
    images = [samples.scan(kinds[number % len(kinds)], seed=number) for number in range(pages)]
    return Document(f"scan-{pages}.pdf", samples.pdf_of(images), pages)


def markdown_set() -> list[Document]:
    """A short note, a page of prose, and a long table."""
    prose = "\n\n".join(f"## Part {n}\n\n" + " ".join(samples.LETTER) for n in range(20))
    rows = "\n".join(f"| {n} | Knots for Beginners | C{n} |" for n in range(200))
    return [
        Document("notes.md", samples.MARKDOWN.encode()),
        Document("prose.md", f"# Letters\n\n{prose}\n".encode()),
        Document("table.md", f"| No | Book | Shelf |\n|---|---|---|\n{rows}\n".encode()),
    ]


def office_set() -> list[Document]:
    """A letter, a sheet, slides, and a page of HTML."""
    return [
        Document("letter.docx", _letter()),
        Document("counts.xlsx", _sheet()),
        Document("talk.pptx", _slides()),
        Document("page.html", samples.HTML.encode()),
    ]


@cache
def pictures(count: int) -> Document:
    """A text document with noise pictures of 9 MB each, which no format can compress."""
    grain = np.random.default_rng(7)
    document = docx.Document()
    for _ in range(count):
        image = Image.fromarray(grain.integers(0, 256, (_NOISE_PX, _NOISE_PX), dtype=np.uint8))
        document.add_picture(io.BytesIO(_saved(partial(image.save, format="PNG"))))
    return Document("pictures.docx", _saved(document.save))


@dataclass(frozen=True)
class Inputs:
    """The documents of a run: one small set without OCR, one with OCR, and the timed scans."""

    small: Sequence[Document]
    office: Sequence[Document]
    page: Document
    scan: Document
    long_scan: Document


def bundled(scan_pages: int, long_pages: int) -> Inputs:
    """The generated documents."""
    return Inputs(markdown_set(), office_set(), scan(1), scan(scan_pages), scan(long_pages))


def from_folder(folder: Path) -> Inputs:
    """The user's own: PDFs and images are timed as scans, everything else as small documents.

    A missing kind is replaced by the generated documents.

    Raises:
        ValueError: the folder holds no file.
    """
    found = [_read(path) for path in sorted(folder.iterdir()) if path.is_file()]
    if not found:
        raise ValueError(f"no file in {folder}")
    paged = sorted((one for one in found if one.pages), key=lambda one: one.pages)
    small = [one for one in found if not one.pages]
    marked = [one for one in small if one.name.lower().endswith((".md", ".txt"))]
    others = [one for one in small if one not in marked]
    paged = paged or [scan(1), scan(10), scan(50)]
    middle = paged[len(paged) // 2]
    return Inputs(marked or markdown_set(), others or office_set(), paged[0], middle, paged[-1])


def _read(path: Path) -> Document:
    content = path.read_bytes()
    suffix = path.suffix.lower()
    pages = 1 if suffix in _IMAGES else 0
    if suffix == ".pdf":
        pages = len(pypdfium2.PdfDocument(content))
    return Document(path.name, content, pages)


def _letter() -> bytes:
    letter = docx.Document()
    letter.add_heading("Invitation", level=1)
    for paragraph in samples.LETTER * 5:
        letter.add_paragraph(paragraph)
    return _saved(letter.save)


def _sheet() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in range(_SHEET_ROWS):
        sheet.append([f"Item {row}", row, row * 1.5])
    return _saved(book.save)


def _slides() -> bytes:
    talk = pptx.Presentation()
    for number in range(1, 6):
        slide = talk.slides.add_slide(talk.slide_layouts[1])
        title = slide.shapes.title
        assert title is not None
        title.text = f"Part {number}"
        slide.placeholders[1].text = samples.LETTER[1]
    return _saved(talk.save)


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    out = io.BytesIO()
    save(out)
    return out.getvalue()
