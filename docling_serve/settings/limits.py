"""Settings that bound what one request may ask for."""

from pydantic import BaseModel, Field

from docling_serve.conversion.document_limits import DocumentLimits

from .types import NameList

_WEEK_S = 7 * 24 * 3600.0


class ConnectionLimits(BaseModel):
    """Bounds on what a connection may hold, and for how long."""

    max_header_size: int = Field(
        default=64 * 1024,
        ge=1024,
        description="Maximum bytes of a request header, including its address; more is refused"
        " with 431.",
    )
    header_timeout: float = Field(
        default=30.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds that a client has to send a request header, counted from the"
        " connection or the first byte; then it gets 408. 0: no limit.",
    )
    body_timeout: float = Field(
        default=30.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds that the body of a request may take beyond those that min_body_rate"
        " allows; then the client gets 408. Also the seconds that a client may stop reading its"
        " answer. 0: no limit.",
    )
    min_body_rate: int = Field(
        default=500,
        ge=1,
        description="Minimum bytes of a body per second; see body_timeout.",
    )


class LimitSettings(DocumentLimits, ConnectionLimits):
    """Bounds on what one request may ask for."""

    max_document_timeout: float = Field(
        default=_WEEK_S,
        description="Seconds per document: upper bound of document_timeout, and its value where a"
        " request gives none.",
    )
    max_upload_size: int = Field(
        default=2 * 1024**3,
        ge=0,
        description="Maximum bytes of a request with uploads, all its files together; more is"
        " refused with 413 while it is received. 0: no limit.",
    )
    max_json_size: int = Field(
        default=256 * 1024**2,
        ge=0,
        description="Maximum bytes of a JSON request. It is held in memory several times over, so"
        " send large documents as uploads. 0: no limit.",
    )
    max_sources_per_request: int = Field(
        default=3, description="Files or sources accepted in one request."
    )
    max_callbacks_per_request: int = Field(
        default=10, ge=0, description="Callbacks accepted in one request."
    )
    max_images_scale: float = Field(
        default=2.0,
        description="Upper bound of images_scale (1.0 is 72 dpi). Requests that omit it get 2.0.",
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
