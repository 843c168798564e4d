"""A scanned page to convert if the user names no document: generated, so nothing is shipped."""

from __future__ import annotations

from pathlib import Path

NAME = "drawn-scan.png"
_SIZE = (1240, 1754)  # A4 at 150 dots per inch
_LINES = (
    "Minutes of the harbour board",
    "",
    "The board met on the first Monday of the month in the old customs house.",
    "The ferry company asked for a longer pier, since the new boats do not fit.",
    "The keeper reported that the lamp was cleaned and that the stairs are safe.",
    "Three letters were read, among them one about the noise of the foghorn.",
    "The treasurer counted the money twice and found that nothing was missing.",
    "The next meeting takes place when the winter storms have passed.",
)
#: Words that OCR must find in it.
EXPECTED = ("harbour", "customs", "ferry", "keeper", "foghorn", "treasurer", "winter")


def draw_page(folder: Path) -> Path:
    """Write the page as PNG into ``folder``: an image without a text layer, so OCR must run."""
    from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - only where it is needed

    page = Image.new("L", _SIZE, 248)
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(_LINES):
        font = ImageFont.load_default(44 if number == 0 else 30)
        pen.text((110, 150 + number * 90), line, fill=30, font=font)
    file = folder / NAME
    page.save(file)
    return file
