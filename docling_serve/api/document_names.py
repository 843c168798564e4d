"""The name of a document, which tells docling its format where the content does not."""

from __future__ import annotations

import mimetypes
from pathlib import PurePosixPath

from docling.datamodel.base_models import FormatToExtensions, FormatToMimeType

_UNNAMED = "document"
#: The extensions of a media type that docling reads; the first of them is the usual one.
_EXTENSIONS = {
    media_type: extensions
    for kind, media_types in reversed(FormatToMimeType.items())
    for media_type in media_types
    if (extensions := FormatToExtensions.get(kind))
}


def media_type_of(content_type: str | None) -> str:
    """A media type without its parameters, in lower case; empty where there is none."""
    return (content_type or "").partition(";")[0].strip().lower()


def document_name(name: str | None, content_type: str | None) -> str:
    """The name of a document sent as ``name``, if it has one, with this media type. Where the name
    has no extension, the type gives one: docling guesses the format from both the content and the
    extension."""
    name = name or _UNNAMED
    media_type = media_type_of(content_type)
    extensions = _EXTENSIONS.get(media_type)
    if PurePosixPath(name).suffix or extensions is None:
        return name
    common = (mimetypes.guess_extension(media_type) or "").removeprefix(".")
    return f"{name}.{common if common in extensions else extensions[0]}"


def upload_name(name: str | None, content_type: str | None) -> str:
    """The name of an upload, which keeps the one it has unless it is a text without an extension:
    of a text, the type says more than the content."""
    if media_type_of(content_type).startswith("text/"):
        return document_name(name, content_type)
    return name or _UNNAMED
