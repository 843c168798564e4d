"""What a PDF's own library knows of it without converting it."""

from __future__ import annotations

from pathlib import Path


def needs_password(path: Path) -> bool:
    """Whether the PDF at ``path`` is encrypted with a password that nobody gave.

    docling's own error does not tell it from a broken file.
    """
    import pypdfium2  # noqa: PLC0415 - only for documents that failed

    try:
        pypdfium2.PdfDocument(path).close()
    except pypdfium2.PdfiumError as exc:
        return "password" in str(exc).lower()
    return False


def page_count(path: Path) -> int | None:
    """How many pages the PDF at ``path`` has; None if it cannot be opened."""
    import pypdfium2  # noqa: PLC0415 - only where long PDFs are cut

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError:
        return None
    try:
        return len(document)
    finally:
        document.close()
