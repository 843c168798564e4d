"""Settings that bound what one request may ask for."""

from pydantic import Field

from docling_serve.conversion.document_limits import DocumentLimits

from .types import NameList

_WEEK_S = 7 * 24 * 3600.0


class LimitSettings(DocumentLimits):
    """Bounds on what one request may ask for."""

    max_document_timeout: float = Field(
        default=_WEEK_S,
        description="Seconds per document: upper bound of document_timeout, and its value where a"
        " request gives none.",
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
