"""Refuse documents that are small to send and huge to open, before anything opens them.

Reads what a file declares: the directory of an archive, the number and size of pages, the size of
an image. Nothing is rendered or decoded; only gzip must be unpacked to be measured, which stops at
the limit.
"""

from __future__ import annotations

import gzip
import mmap
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from docling.datamodel.base_models import InputFormat
from PIL import Image, UnidentifiedImageError
from pydantic import ConfigDict

from docling_serve.conversion.document_limits import DocumentLimits, OverLimit
from docling_serve.conversion.office_shapes import check_office
from docling_serve.conversion.pdf_access import page_sizes
from docling_serve.conversion.pdf_forms import Pdf, most_paints
from docling_serve.conversion.text_shapes import check_csv, check_html, check_markdown

#: Any file may unpack to this much, however small it was packed: text in office files packs well.
_ALWAYS_ALLOWED_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
#: Bytes per entry of an archive's directory; more would be names of absurd length.
_ENTRY_BYTES = 1024
_HEAD_BYTES = 1024
#: docling renders pages for OCR at three times 72 dpi.
_OCR_SCALE = 3.0
#: docling assumes this many dots per inch for an image that declares none, or 1.
_POINTS = 72.0
#: Below this the declared resolution decides the size; roundings of 72 are above.
_LOW_DPI = 60.0

#: docling treats a file with this prefix as a PDF, whatever its name and its further content.
_PDF = (b"%PDF", b"\xef\xbb\xbf%PDF")
_BROKEN = (zipfile.BadZipFile, OSError, EOFError, zlib.error, struct.error, ValueError)

_ZIP_END = struct.Struct("<4s4H2LH")
_ZIP64_END = struct.Struct("<4sQ2H2L4Q")


class InputLimits(DocumentLimits):
    """The limits in the configuration, as a hashable value for use in a cache key."""

    model_config = ConfigDict(frozen=True)


#: The check of each text format.
_TEXT = {
    InputFormat.MD: check_markdown,
    InputFormat.HTML: check_html,
    InputFormat.CSV: check_csv,
}


def check_document(
    document: BinaryIO, limits: InputLimits, format_: InputFormat | None = None
) -> None:
    """Check a document of any format; leaves ``document`` at its start. Unreadable ones pass: the
    reader that opens them reports why.

    Raises:
        OverLimit: it is too large, or its structure would take too long.
    """
    check_archive(document, limits)
    if format_ in _TEXT:
        document.seek(0)
        _TEXT[format_](document.read().decode("utf-8", "replace"), limits)
        document.seek(0)
        return
    head = _head(document)
    if b"%PDF-" in head:
        _check_pdf(document, limits)
    elif head.startswith(b"PK"):
        check_office(document, limits)
    elif not head.startswith(b"\x1f\x8b"):
        _check_image(document, limits)
    document.seek(0)


def check_archive(document: BinaryIO, limits: InputLimits) -> None:
    """Check it if it is a zip (as office files and EPUB are) or a gzip file; see above."""
    head = _head(document)
    try:
        if head.startswith(b"\x1f\x8b"):
            with suppress(*_BROKEN):
                _check_gzip(document, limits)
        # Whatever the file starts with: readers of archives look at the end.
        if not head.startswith(_PDF):
            with suppress(*_BROKEN):
                if zipfile.is_zipfile(document):
                    _check_zip(document, limits)
    finally:
        document.seek(0)


def _head(document: BinaryIO) -> bytes:
    document.seek(0)
    head = document.read(_HEAD_BYTES)
    document.seek(0)
    return head


def _check_zip(document: BinaryIO, limits: InputLimits) -> None:
    too_many = OverLimit(
        f"The archive has more than {limits.max_archive_entries} entries (max_archive_entries)."
    )
    # zipfile reads the whole directory at once, so its size is checked first.
    if _directory_bytes(document) > limits.max_archive_entries * _ENTRY_BYTES:
        raise too_many
    with zipfile.ZipFile(document) as archive:
        entries = archive.infolist()
    if len(entries) > limits.max_archive_entries:
        raise too_many
    packed = sum(entry.compress_size for entry in entries)
    _check_unpacked(sum(entry.file_size for entry in entries), packed, limits)


def _directory_bytes(document: BinaryIO) -> int:
    """The declared length of a zip file's directory; 0 if it cannot be found."""
    end = document.seek(0, 2)
    start = max(0, end - 0xFFFF - _ZIP_END.size)
    document.seek(start)
    tail = document.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        return 0
    size: int = _ZIP_END.unpack_from(tail, at)[5]
    if size != 0xFFFFFFFF:
        return size
    at = tail.rfind(b"PK\x06\x06", 0, at)
    return int(_ZIP64_END.unpack_from(tail, at)[8]) if at >= 0 else 0


def _check_gzip(document: BinaryIO, limits: InputLimits) -> None:
    packed = document.seek(0, 2)
    document.seek(0)
    unpacked = 0
    with gzip.GzipFile(fileobj=document) as stream:
        while piece := stream.read(_PIECE_BYTES):
            unpacked += len(piece)
            _check_unpacked(unpacked, packed, limits)


def _check_unpacked(unpacked: int, packed: int, limits: InputLimits) -> None:
    if unpacked > limits.max_unpacked_size:
        raise OverLimit(
            f"The archive unpacks to more than {limits.max_unpacked_size} bytes"
            " (max_unpacked_size)."
        )
    if unpacked > max(_ALWAYS_ALLOWED_BYTES, packed * limits.max_unpack_ratio):
        raise OverLimit(
            f"The archive unpacks to more than {limits.max_unpack_ratio} times its size"
            " (max_unpack_ratio)."
        )


def _check_pdf(document: BinaryIO, limits: InputLimits) -> None:
    sizes = page_sizes(document, limits.max_pages_to_open + 1)
    for number, (width, height) in enumerate(sizes, start=1):
        _check_page_count(number, limits)
        _check_pixels(width * height * _OCR_SCALE**2, f"Page {number}", limits)
    with _content(document) as content:
        paints = most_paints(content, limits.max_form_paints)
    if paints > limits.max_form_paints:
        raise OverLimit(
            f"A form of the PDF paints more than {limits.max_form_paints} others (max_form_paints)."
        )


@contextmanager
def _content(document: BinaryIO) -> Iterator[Pdf]:
    """The whole of ``document``, without a copy in memory if it is a file."""
    document.seek(0)
    try:
        mapped = mmap.mmap(document.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # it is in memory, or empty
        yield document.read()
        return
    with mapped:
        yield mapped


def _check_image(document: BinaryIO, limits: InputLimits) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(document)
            for number, (width, height) in enumerate(_frames(image), start=1):
                _check_page_count(number, limits)
                _check_frames(number, limits)
                _check_pixels(width * height, "The image", limits)
            _check_frames(getattr(image, "n_frames", 1), limits)
            _check_resolution(image, limits)
    except Image.DecompressionBombError:
        raise OverLimit(_too_many_pixels("The image", limits)) from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return  # not an image, or a broken one


def _frames(image: Image.Image) -> Iterator[tuple[int, int]]:
    """The size of each page of a TIFF, or of the only image in other formats; decodes none."""
    yield image.size
    number = 1
    while image.format == "TIFF":
        try:
            image.seek(number)
        except EOFError:
            return
        yield image.size
        number += 1


def _check_frames(frames: int, limits: InputLimits) -> None:
    if frames > limits.max_image_frames:
        raise OverLimit(
            f"The image has more than {limits.max_image_frames} frames (max_image_frames)."
        )


def _check_resolution(image: Image.Image, limits: InputLimits) -> None:
    """docling scales an image to its declared size on paper."""
    across, down = image.info.get("dpi", (0, 0))
    if (across, down) == (1, 1) or not 0 < min(across, down) < _LOW_DPI:
        return
    width, height = image.size
    pixels = width * height * (_POINTS / across) * (_POINTS / down) * _OCR_SCALE**2
    if pixels > limits.max_image_pixels:
        raise OverLimit(
            f"The image declares {min(across, down):.3g} dots per inch. Rendered at its size on"
            f" paper, it has more than {limits.max_image_pixels} pixels (max_image_pixels)."
        )


def _check_page_count(pages: int, limits: InputLimits) -> None:
    if pages > limits.max_pages_to_open:
        raise OverLimit(
            f"The document has more than {limits.max_pages_to_open} pages (max_pages_to_open)."
        )


def _check_pixels(pixels: float, what: str, limits: InputLimits) -> None:
    if pixels > limits.max_image_pixels:
        raise OverLimit(_too_many_pixels(what, limits))


def _too_many_pixels(what: str, limits: InputLimits) -> str:
    return f"{what} has more than {limits.max_image_pixels} pixels (max_image_pixels)."
