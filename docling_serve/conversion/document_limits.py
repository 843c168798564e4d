"""Limits on one document. The settings have these fields, and the converting process reads them.

Imports nothing from this package: a worker need not read the settings.
"""

from __future__ import annotations

import sys

from pydantic import BaseModel, Field


class OverLimit(Exception):
    """A document exceeds a limit; the text says which, and names the setting."""


class DocumentLimits(BaseModel):
    """Bounds on one document."""

    max_num_pages: int = Field(
        default=sys.maxsize,
        description="Pages of the longest document accepted. The default means no limit.",
    )
    max_file_size: int = Field(
        default=sys.maxsize,
        description="Bytes of the largest file accepted. The default means no limit.",
    )
    max_pages_to_open: int = Field(
        default=20_000,
        ge=1,
        description="A PDF or TIFF with more pages is refused before it is opened,"
        " regardless of max_num_pages and page_range.",
    )
    max_image_pixels: int = Field(
        default=178_956_970,
        ge=1,
        description="Pixels of the largest image, or page of a PDF at 216 dpi, that is opened. The"
        " default is Pillow's own limit.",
    )
    max_unpacked_size: int = Field(
        default=1024**3,
        ge=1,
        description="Bytes that an archive (office files, EPUB, zip, tar.gz) may unpack to. Also"
        " the limit for a document that is fetched, since it may be an archive.",
    )
    max_unpack_ratio: int = Field(
        default=200,
        ge=1,
        description="How many times its own size an archive may unpack to. Up to 64 MiB are always"
        " allowed.",
    )
    max_archive_entries: int = Field(
        default=20_000, ge=1, description="Entries of the largest archive that is opened."
    )
    max_image_frames: int = Field(
        default=1000,
        ge=1,
        description="Frames of an image (GIF, WebP, TIFF and others), each of which is a page.",
    )
    max_form_paints: int = Field(
        default=100_000,
        ge=1,
        description="Forms that one form of a PDF may paint, directly and through other forms.",
    )
    max_markup_depth: int = Field(
        default=400,
        ge=1,
        description="Levels of nesting in HTML and Markdown. In HTML an unclosed element"
        " contains everything after it.",
    )
    max_paragraph_marks: int = Field(
        default=5000,
        ge=1,
        description="Backticks and links in one paragraph of Markdown.",
    )
    max_table_cells: int = Field(
        default=1_000_000,
        ge=1,
        description="Cells of a table (CSV, Markdown); docling takes no more than the default. A"
        " sheet (XLSX, ODS) may span five times as many, including empty cells.",
    )
    max_pictures: int = Field(
        default=2000,
        ge=1,
        description="Pictures that an office file may show; a picture counts each time it is"
        " shown.",
    )
