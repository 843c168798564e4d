"""Whether a PDF can be opened at all, said by the library that knows why not."""

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
