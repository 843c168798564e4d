"""What a PDF declares before docling opens it, read with the library that docling renders with."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO


def needs_password(path: Path) -> bool:
    """Whether the PDF at ``path`` is encrypted with a password that was not given.

    docling's own error does not distinguish it from a broken file.
    """
    import pypdfium2  # noqa: PLC0415 - only for documents that failed
    from docling.utils.locks import pypdfium2_lock  # noqa: PLC0415

    with pypdfium2_lock:
        try:
            pypdfium2.PdfDocument(path).close()
        except pypdfium2.PdfiumError as exc:
            return "password" in str(exc).lower()
    return False


def page_sizes(document: BinaryIO, at_most: int) -> list[tuple[float, float]]:
    """Width and height in points of the first ``at_most`` pages; none if it cannot be opened."""
    import pypdfium2  # noqa: PLC0415
    from docling.utils.locks import pypdfium2_lock  # noqa: PLC0415

    with pypdfium2_lock:
        try:
            pdf = pypdfium2.PdfDocument(document)
            try:
                return [pdf.get_page_size(index) for index in range(min(len(pdf), at_most))]
            finally:
                pdf.close()
        except pypdfium2.PdfiumError:
            return []


def page_count(path: Path) -> int | None:
    """How many pages the PDF at ``path`` has; None if it cannot be opened."""
    import pypdfium2  # noqa: PLC0415 - only where long PDFs are cut
    from docling.utils.locks import pypdfium2_lock  # noqa: PLC0415

    with pypdfium2_lock:
        try:
            document = pypdfium2.PdfDocument(path)
        except pypdfium2.PdfiumError:
            return None
        try:
            return len(document)
        finally:
            document.close()
