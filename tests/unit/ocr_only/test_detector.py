"""The detector and what the image of a line tells, on pages drawn here."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from docling_serve.ocr_only.detector import WEIGHTS, LayoutDetector
from docling_serve.ocr_only.ink import with_ink
from docling_serve.ocr_only.page_objects import TextLine

WIDTH, HEIGHT = 595.0, 842.0


def page() -> Image.Image:
    """A title, prose, and a table with rules, at 144 dpi."""
    image = Image.new("L", (1190, 1684), 255)
    draw = ImageDraw.Draw(image)
    draw.text((130, 150), "Inventory of the Tower", 0, font=ImageFont.load_default(size=44))
    body = ImageFont.load_default(size=22)
    for row in range(6):
        text = "Every shelf follows the curve of the tower and the maps are kept below it"
        draw.text((130, 250 + 30 * row), text, 0, font=body)
    for row in range(6):
        for column in range(3):
            left, top = 130 + 300 * column, 520 + 44 * row
            draw.rectangle((left, top, left + 300, top + 44), outline=0, width=2)
            draw.text((left + 10, top + 8), f"{row * 31 + column}", 0, font=body)
    return image


def test_the_weights_are_those_of_the_wheel() -> None:
    found = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert found == "25b1f27ec56aa932a48f30cbd6293c358a156280f4b20b0a973bab210c39f62c"


def test_title_and_table_of_a_page_are_seen_where_they_are() -> None:
    regions = LayoutDetector(1).regions(page(), WIDTH, HEIGHT)
    (table,) = [region for region in regions if region.kind == "table"]
    (title,) = [region for region in regions if region.kind == "title"]
    assert abs(table.top - 260) < 12
    assert abs(table.bottom - 392) < 12
    assert 70 < title.top < 90
    assert all(0 <= r.left < r.right <= WIDTH and 0 <= r.top < r.bottom <= HEIGHT for r in regions)


def test_an_empty_page_has_no_regions() -> None:
    assert LayoutDetector(1).regions(Image.new("RGB", (600, 800), "white"), WIDTH, HEIGHT) == []


def test_bullets_and_bold_print_are_seen_in_the_image() -> None:
    image = Image.new("L", (800, 200), 255)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=28)
    draw.ellipse((44, 35, 52, 43), fill=0)
    draw.text((80, 24), "Nautical charts", 0, font=font)
    draw.text((80, 84), "Nautical charts", 0, font=font, stroke_width=1)
    lines = [TextLine(n, 40, 12 + 30 * n, 150, 28 + 30 * n, "Nautical charts") for n in range(2)]
    bulleted, bold = with_ink(lines, np.asarray(image), 2.0)
    assert bulleted.text == "\u2022 Nautical charts"
    assert bulleted.left < 24
    assert bold.text == "Nautical charts"
    assert bold.weight > 1.2 * bulleted.weight
