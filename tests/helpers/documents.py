"""Small documents for tests, made in memory."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

PASSWORD = "lantern"  # of encrypted_pdf()

_DPI = 150
_A6_PORTRAIT = (620, 874)  # pixels at 150 dpi; small, so that OCR of a page takes about a second
_MEDIA_BOX = b"[0 0 298 420]"  # the same in points
WORDS = ("Lighthouse", "Harbour", "Umbrella")

# The fixed string that fills a password up to 32 bytes (PDF 1.7, 7.6.3.3, algorithm 2).
_PASSWORD_FILL = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")
_NO_PERMISSIONS = b"\xc0\xff\xff\xff"  # -64, little-endian


def blank_pdf(pages: int = 1) -> bytes:
    """A valid PDF with nothing drawn on its pages."""
    numbers = range(3, 3 + pages)
    kids = b" ".join(b"%d 0 R" % number for number in numbers)
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox " + _MEDIA_BOX + b" /Resources << >> >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%b] /Count %d >>" % (kids, pages),
        *(page for _ in numbers),
    ]
    return _pdf(objects, b"/Root 1 0 R")


def broken_pdf() -> bytes:
    """Begins like a PDF and has no object in it."""
    return b"%PDF-1.7\n" + bytes(range(256)) * 8


def encrypted_pdf(password: str = PASSWORD) -> bytes:
    """A PDF with one page that opens only with ``password`` (RC4, 40 bits, PDF 1.4)."""
    identity = hashlib.md5(b"docling-serve tests").digest()  # noqa: S324  # the format's hash
    filled = (password.encode("latin-1") + _PASSWORD_FILL)[:32]
    owner = _rc4(_md5(filled)[:5], filled)
    key = _md5(filled + owner + _NO_PERMISSIONS + identity)[:5]
    user = _rc4(key, _PASSWORD_FILL)
    content_number = 4
    content = _rc4(
        _md5(key + content_number.to_bytes(3, "little") + b"\0\0")[:10],
        b"BT /F1 18 Tf 40 300 Td (Behind the lock) Tj ET",
    )
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox " + _MEDIA_BOX + b" /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Filter /Standard /V 1 /R 2 /P -64 /O <%b> /U <%b> >>"
        % (owner.hex().encode(), user.hex().encode()),
    ]
    trailer = b"/Root 1 0 R /Encrypt 6 0 R /ID [<%b> <%b>]" % ((identity.hex().encode(),) * 2)
    return _pdf(objects, trailer)


def scanned_pdf(pages: int = 1, words: Sequence[str] = WORDS) -> bytes:
    """A PDF of page images without text layer; every page shows ``words`` and its number."""
    images = [_scan([*words, f"Page {number}"]) for number in range(1, pages + 1)]
    out = io.BytesIO()
    images[0].save(out, "PDF", save_all=True, append_images=images[1:], resolution=_DPI, quality=60)
    return out.getvalue()


def scanned_png(words: Sequence[str] = WORDS) -> bytes:
    """An image of ``words``, one per line."""
    out = io.BytesIO()
    _scan(words).save(out, "PNG", dpi=(_DPI, _DPI))
    return out.getvalue()


def _scan(words: Sequence[str]) -> Image.Image:
    image = Image.new("L", _A6_PORTRAIT, 248)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=40)
    for number, word in enumerate(words):
        draw.text((60, 60 + 80 * number), word, 20, font=font)
    return image


def _pdf(objects: Sequence[bytes], trailer: bytes) -> bytes:
    """The objects numbered from 1, with cross-reference table and trailer."""
    out = b"%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    size = len(objects) + 1
    table = b"0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % at for at in offsets)
    tail = b"xref\n0 %d\n%btrailer\n<< /Size %d %b >>\n" % (size, table, size, trailer)
    return out + tail + b"startxref\n%d\n%%%%EOF\n" % len(out)


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data).digest()  # noqa: S324  # the format's hash


def _rc4(key: bytes, data: bytes) -> bytes:
    state = list(range(256))
    j = 0
    for i, byte in zip(range(256), cycle(key), strict=False):
        j = (j + state[i] + byte) % 256
        state[i], state[j] = state[j], state[i]
    i = j = 0
    out = bytearray()
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def doclang_archive() -> bytes:
    """A ``.dclx`` as docling writes it: a page with its image, a heading, a table and a picture."""
    from docling_core.types.doc import (  # the library is large, and few tests need it
        BoundingBox,
        CoordOrigin,
        DoclingDocument,
        ImageRef,
        ProvenanceItem,
        Size,
        TableCell,
        TableData,
    )

    def at(top: float, bottom: float) -> ProvenanceItem:
        box = BoundingBox(l=20, t=top, r=180, b=bottom, coord_origin=CoordOrigin.TOPLEFT)
        return ProvenanceItem(page_no=1, bbox=box, charspan=(0, 0))

    document = DoclingDocument(name="tides")
    paper = ImageRef.from_pil(Image.new("RGB", (200, 300), "white"), dpi=72)
    document.add_page(1, Size(width=200, height=300), image=paper)
    document.add_heading("Tides & Currents", prov=at(20, 40))
    cells = [
        TableCell(
            text=text,
            start_row_offset_idx=row,
            end_row_offset_idx=row + 1,
            start_col_offset_idx=column,
            end_col_offset_idx=column + width,
            col_span=width,
            column_header=row == 0,
        )
        for row, column, width, text in ((0, 0, 2, "High water"), (1, 0, 1, "Oban"), (1, 1, 1, "7"))
    ]
    document.add_table(TableData(table_cells=cells, num_rows=2, num_cols=2), prov=at(60, 120))
    drawing = ImageRef.from_pil(Image.new("RGB", (60, 40), "navy"), dpi=72)
    document.add_picture(image=drawing, prov=at(140, 200))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tides.dclx"
        document.save_as_doclang_archive(path)
        return path.read_bytes()
