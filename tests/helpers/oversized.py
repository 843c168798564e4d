"""Documents that are small to send and huge to open."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib

import pypdfium2
from PIL import Image

_MIB = 1024 * 1024


def packed_zeros(mib: int, *, name: str = "word/media/image1.bin") -> bytes:
    """A zip archive of one entry with so many MiB of zeros."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w") as entry,
    ):
        for _ in range(mib):
            entry.write(bytes(_MIB))
    return out.getvalue()


def many_entries(count: int) -> bytes:
    """A zip archive of ``count`` tiny entries."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(count):
            archive.writestr(f"{number}.md", "x")
    return out.getvalue()


def long_directory(mib: int) -> bytes:
    """The end of a zip archive that announces a directory of so many MiB."""
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, mib * _MIB, 0, 0)
    return b"PK\x03\x04" + bytes(64) + end


def gzipped_zeros(mib: int) -> bytes:
    return gzip.compress(bytes(mib * _MIB))


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is, with nothing in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def pdf_of(*sizes: tuple[float, float]) -> bytes:
    """A PDF of empty pages, given by width and height in points."""
    pdf = pypdfium2.PdfDocument.new()
    for width, height in sizes:
        pdf.new_page(width, height)
    out = io.BytesIO()
    pdf.save(out)
    pdf.close()
    return out.getvalue()


def tiff_of(*sizes: tuple[int, int]) -> bytes:
    """A TIFF of one page for each size."""
    first, *others = [Image.new("1", size) for size in sizes]
    out = io.BytesIO()
    first.save(out, "TIFF", save_all=True, append_images=others)
    return out.getvalue()
