"""Settings that bound what one request may ask for."""

import sys

from pydantic import BaseModel, Field

from .types import NameList

_WEEK_S = 7 * 24 * 3600.0


class LimitSettings(BaseModel):
    """Bounds on what one request may ask for."""

    max_document_timeout: float = Field(
        default=_WEEK_S,
        description="Seconds per document: upper bound of document_timeout, and its value where a"
        " request gives none.",
    )
    max_num_pages: int = Field(
        default=sys.maxsize,
        description="Pages of the longest document accepted. The default means no limit.",
    )
    max_file_size: int = Field(
        default=sys.maxsize,
        description="Bytes of the largest file accepted. The default means no limit.",
    )
    max_upload_size: int = Field(
        default=2 * 1024**3,
        ge=0,
        description="Bytes of the largest request with uploads, all of its files together; more is"
        " refused with 413 while it is received. 0: no limit.",
    )
    max_json_size: int = Field(
        default=256 * 1024**2,
        ge=0,
        description="Bytes of the largest JSON request. It is held in memory several times over, so"
        " send large documents as uploads. 0: no limit.",
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
    max_sources_per_request: int = Field(
        default=3, description="Files or sources accepted in one request."
    )
    max_images_scale: float = Field(
        default=2.0,
        description="Upper bound of images_scale (1.0 is 72 dpi). Requests that omit it ask 2.0.",
    )
    allowed_image_export_modes: NameList = Field(
        default=None,
        description="Image export modes a request may ask for (placeholder, embedded, referenced),"
        " separated by commas. Unset: all.",
    )
    allowed_source_types: NameList = Field(
        default=None,
        description="Kinds of sources accepted in batch requests, separated by commas. Unset: all.",
    )
    allowed_target_types: NameList = Field(
        default=None,
        description="Kinds of targets a request may ask for, separated by commas. Unset: all.",
    )
