"""Write the sample documents of this folder, byte for byte the same every time.

    python examples/make_documents.py [FOLDER]     (default: the folder "documents" next to this)

The scans are drawn at 150 dpi with Pillow's own font, turned a little and made noisy, and have
no text layer: all text in the result was read by OCR. ``expected.json`` lists the required text.
"""

from __future__ import annotations

import io
import json
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from docx import Document
from PIL import Image, ImageDraw, ImageFont

DPI = 150
A4 = (1240, 1754)  # pixels at 150 dpi
PAPER, INK = 246, 40  # grey levels
LONG_AGO = (2024, 1, 1, 0, 0, 0)
MARGIN = 130
BODY_PX, TITLE_PX = 27, 44


@dataclass(frozen=True)
class ScanPage:
    """One page: a title, paragraphs across the page, columns, rows of cells, items, a picture.

    ``picture`` is its caption. ``structure`` is what the page's Markdown must contain when its
    layout is recognised, spaces aside.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    items: tuple[str, ...] = ()
    picture: str = ""
    closing: str = ""
    turn_degrees: float = 0.0
    phrases: tuple[str, ...] = field(default=())
    structure: tuple[str, ...] = field(default=())


SCAN_PAGES = (
    ScanPage(
        title="The Lighthouse Library",
        paragraphs=(
            "The library stands at the end of the harbour wall, where the old lighthouse was "
            "built more than two hundred years ago. Visitors climb ninety-six steps to reach "
            "the reading room under the lantern.",
            "Every shelf follows the curve of the tower. Maps are kept on the ground floor, "
            "novels on the second, and letters from sailors fill the cabinets near the window.",
            "On clear evenings the keeper lights a single lamp and reads aloud until the ferry "
            "has passed the island.",
        ),
        items=(
            "Return books before the first frost.",
            "Keep the lantern door closed.",
            "Dogs may wait on the stairs.",
        ),
        picture="Figure 1: The lighthouse and the moon.",
        turn_degrees=0.3,
        phrases=("Lighthouse Library", "harbour wall", "reading room", "cabinets", "ferry"),
        structure=(
            "## The Lighthouse Library",
            "- Keep the lantern door closed. - Dogs may wait on the stairs.",
            "The lighthouse and the moon. <!-- image -->",
        ),
    ),
    ScanPage(
        title="Notes on Weather",
        paragraphs=(
            "The station has measured rain, wind and pressure every morning since the tower "
            "was repaired.",
        ),
        columns=(
            "Spring begins with fog that drifts in before sunrise and leaves by noon. The "
            "barometer falls slowly and the gulls stay close to the shore. Fishermen mend "
            "their nets and wait for the wind to turn.",
            "Autumn brings long storms from the west. Waves reach the second window and the "
            "bell rings without a hand on the rope. In the logbook such nights are marked "
            "with a small blue star.",
        ),
        closing="Copies of the logbook may be ordered at the desk.",
        turn_degrees=-0.4,
        phrases=(
            "Notes on Weather",
            "Spring begins with fog",
            "barometer",
            "Autumn brings",
            "desk",
        ),
    ),
    ScanPage(
        title="Inventory of the Tower",
        paragraphs=("Counted by the keeper and two volunteers in the first week of March.",),
        table=(
            ("Item", "Floor", "Quantity"),
            ("Brass telescope", "Lantern", "1"),
            ("Oak chairs", "Reading room", "24"),
            ("Nautical charts", "Ground floor", "318"),
            ("Oil lamps", "Staircase", "12"),
        ),
        closing="Nothing was missing, and one umbrella was found.",
        turn_degrees=0.2,
        phrases=("Inventory", "Brass telescope", "Nautical charts", "318", "umbrella"),
        structure=(
            "## Inventory of the Tower",
            "| Item | Floor | Quantity |",
            "| Brass telescope | Lantern | 1 |",
            "| Oil lamps | Staircase | 12 |",
        ),
    ),
)

PNG_PAGE = ScanPage(
    title="Ferry Timetable Notice",
    paragraphs=(
        "From Monday the morning ferry leaves the north pier at seven fifteen. Bicycles travel "
        "free of charge when there is room on deck.",
        "Please keep this ticket until the end of the crossing. Lost property is kept for thirty "
        "days in the office beside the waiting room.",
    ),
    turn_degrees=-0.3,
    phrases=("Ferry Timetable", "morning ferry", "Bicycles", "Lost property", "waiting room"),
    structure=("## Ferry Timetable Notice",),
)

LETTER = (
    "Dear members of the reading circle,",
    "our next meeting takes place on the first Thursday of October in the lantern room. Please "
    "bring one book that you would like to lend and one that you never finished.",
    "The kettle has been repaired, so there will be peppermint tea.",
    "With kind regards, the keeper",
)

HTML = """\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Tower opening hours</title></head>
<body>
<h1>Tower opening hours</h1>
<p>The tower is open from <b>April</b> to <b>September</b>. Groups need an appointment.</p>
<table>
<tr><th>Day</th><th>Opens</th><th>Closes</th></tr>
<tr><td>Tuesday</td><td>10:00</td><td>16:00</td></tr>
<tr><td>Saturday</td><td>09:00</td><td>18:30</td></tr>
</table>
<ul><li>Dogs wait at the gate.</li><li>Sturdy shoes are recommended.</li></ul>
</body>
</html>
"""

MARKDOWN = """\
# Keeper's notes

The lamp was cleaned on Friday. *Two panes* need new putty before winter.

## To do

1. Oil the hinges of the seaward door.
2. Order rope, twenty metres.
3. Ask the harbour office about the **foghorn**.

| Book | Shelf |
|------|-------|
| Tides and Currents | B4 |
| Knots for Beginners | C1 |
"""


def scan(page: ScanPage, seed: int) -> Image.Image:
    """Draw ``page`` as a grey scan at 150 dpi; ``seed`` decides the specks and the grain."""
    image = Image.new("L", A4, PAPER)
    draw = ImageDraw.Draw(image)
    body, title = (ImageFont.load_default(size=size) for size in (BODY_PX, TITLE_PX))
    width = A4[0] - 2 * MARGIN
    draw.text((MARGIN, MARGIN), page.title, INK, font=title)
    y = MARGIN + 2 * TITLE_PX
    for paragraph in page.paragraphs:
        y = _write(draw, body, paragraph, (MARGIN, y), width) + BODY_PX
    if page.columns:
        gutter = 80
        each = (width - gutter * (len(page.columns) - 1)) // len(page.columns)
        ends = [
            _write(draw, body, text, (MARGIN + number * (each + gutter), y), each)
            for number, text in enumerate(page.columns)
        ]
        y = max(ends) + BODY_PX
    for row in page.table:
        for number, cell in enumerate(row):
            left = MARGIN + number * width // len(row)
            box = (left, y, left + width // len(row), y + 2 * BODY_PX)
            draw.rectangle(box, outline=INK, width=2)
            draw.text((left + 12, y + 12), cell, INK, font=body)
        y += 2 * BODY_PX
    for item in page.items:
        draw.ellipse((MARGIN + 6, y + 14, MARGIN + 15, y + 23), fill=INK)
        y = _write(draw, body, item, (MARGIN + 40, y), width - 40) + 8
    if page.picture:
        y = _picture(image, y + BODY_PX)
        y = _write(draw, body, page.picture, (MARGIN, y + 18), width)
    _write(draw, body, page.closing, (MARGIN, y + BODY_PX), width)
    return _worn(image, page.turn_degrees, seed)


def _picture(image: Image.Image, top: int) -> int:
    """Draw a lighthouse at night, as wide as the text; returns the y below it."""
    right, bottom = A4[0] - MARGIN, top + 420
    draw = ImageDraw.Draw(image)
    for row in range(top, bottom):
        draw.line((MARGIN, row, right, row), fill=60 + (row - top) // 5)
    draw.ellipse((MARGIN + 620, top + 50, MARGIN + 720, top + 150), fill=225)
    draw.polygon(
        [(260, bottom - 60), (300, top + 120), (360, top + 120), (400, bottom - 60)], fill=205
    )
    draw.rectangle((290, top + 70, 370, top + 120), fill=150)
    draw.rectangle((MARGIN, bottom - 60, right, bottom), fill=25)
    return bottom


def _write(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    text: str,
    at: tuple[int, int],
    width: int,
) -> int:
    """Write wrapped text and return the y below it."""
    x, y = at
    for line in _wrapped(font, text, width):
        draw.text((x, y), line, INK, font=font)
        y += round(1.35 * BODY_PX)
    return y


def _wrapped(
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str, width: int
) -> Iterator[str]:
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            yield line
            line = word
        else:
            line = longer
    if line:
        yield line


def _worn(image: Image.Image, turn_degrees: float, seed: int) -> Image.Image:
    turned = image.rotate(turn_degrees, Image.Resampling.BICUBIC, fillcolor=PAPER)
    grain = np.random.default_rng(seed)
    pixels = np.asarray(turned, dtype=np.int16).copy()
    pixels += np.linspace(0, -14, A4[0], dtype=np.int16)[None, :]  # darker towards one edge
    specks = grain.integers(0, pixels.size, 400)
    pixels.reshape(-1)[specks] -= grain.integers(30, 120, specks.size).astype(np.int16)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def pdf_of(images: list[Image.Image]) -> bytes:
    """A PDF with one JPEG per page and no text layer."""
    when = time.struct_time((*LONG_AGO, 0, 1, 0))
    out = io.BytesIO()
    images[0].save(
        out,
        "PDF",
        save_all=True,
        append_images=images[1:],
        resolution=DPI,
        quality=45,
        creationDate=when,
        modDate=when,
    )
    return out.getvalue()


def png_of(image: Image.Image) -> bytes:
    """A PNG with sixteen grey levels, as office scanners store a page."""
    out = io.BytesIO()
    image.quantize(16, dither=Image.Dither.NONE).save(out, "PNG", optimize=True, dpi=(DPI, DPI))
    return out.getvalue()


def docx_of(paragraphs: tuple[str, ...]) -> bytes:
    """A letter as DOCX, with its archive rewritten to have a fixed date."""
    document = Document()
    document.core_properties.created = datetime(*LONG_AGO)
    document.core_properties.modified = datetime(*LONG_AGO)
    document.add_heading("Invitation", level=1)
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    written, fixed = io.BytesIO(), io.BytesIO()
    document.save(written)
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(fixed, "w") as target:
        for name in sorted(source.namelist()):
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, source.read(name))
    return fixed.getvalue()


def expected() -> dict[str, dict[str, object]]:
    """Per file: its pages (0 where the format has none) and the phrases that a conversion must
    return.

    For scans also the Markdown that must be returned where layout and tables are recognised.
    """
    scanned = [phrase for page in SCAN_PAGES for phrase in page.phrases]
    structure = [part for page in SCAN_PAGES for part in page.structure]
    return {
        "scan.pdf": {"pages": len(SCAN_PAGES), "phrases": scanned, "structure": structure},
        "scan.png": {
            "pages": 1,
            "phrases": list(PNG_PAGE.phrases),
            "structure": list(PNG_PAGE.structure),
        },
        "letter.docx": {
            "pages": 0,
            "phrases": ["Invitation", "first Thursday of October", "peppermint tea"],
        },
        "page.html": {
            "pages": 0,
            "phrases": ["Tower opening hours", "Saturday", "18:30", "Sturdy shoes"],
        },
        "notes.md": {
            "pages": 0,
            "phrases": ["Keeper", "foghorn", "Tides and Currents", "Oil the hinges"],
        },
    }


def documents() -> dict[str, bytes]:
    """Every file of the folder by name."""
    scans = [scan(page, seed) for seed, page in enumerate(SCAN_PAGES)]
    return {
        "scan.pdf": pdf_of(scans),
        "scan.png": png_of(scan(PNG_PAGE, seed=99)),
        "letter.docx": docx_of(LETTER),
        "page.html": HTML.encode(),
        "notes.md": MARKDOWN.encode(),
        "expected.json": (json.dumps(expected(), indent=2) + "\n").encode(),
    }


def main() -> None:
    given = sys.argv[1:]
    folder = Path(given[0]) if given else Path(__file__).parent / "documents"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in documents().items():
        (folder / name).write_bytes(content)
        print(f"{folder / name}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
