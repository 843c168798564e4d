"""What one document may be like. The settings have these fields, and whoever converts reads them.

Imports nothing of ours: a worker need not read the settings.
"""

from __future__ import annotations

import sys

from pydantic import BaseModel, Field


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
        description="A PDF or TIFF with more pages is refused before it is opened, whatever"
        " max_num_pages and page_range say.",
    )
    max_image_pixels: int = Field(
        default=178_956_970,
        ge=1,
        description="Pixels of the largest image, or page of a PDF at 216 dpi, that is opened. The"
        " default is what Pillow refuses by itself.",
    )
    max_unpacked_size: int = Field(
        default=1024**3,
        ge=1,
        description="Bytes that an archive (office files, EPUB, zip, tar.gz) may unpack to, and"
        " that a document may have which is fetched: it may be one.",
    )
    max_unpack_ratio: int = Field(
        default=200,
        ge=1,
        description="How many times its own size an archive may unpack to, beyond 64 MiB.",
    )
    max_archive_entries: int = Field(
        default=20_000, ge=1, description="Entries of the largest archive that is opened."
    )
