"""Requests to Mistral's OCR and its description of a file, in the field names of its API."""

from __future__ import annotations

import re
from typing import Any, Literal

from fastapi import HTTPException
from pydantic import BaseModel, ConfigDict, model_validator
from typing_extensions import Self

_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
_MAX_PAGES = 10_000


class FileObject(BaseModel):
    """An uploaded file: its size in bytes, and times in seconds since 1970."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    mimetype: str
    purpose: Literal["ocr"] = "ocr"
    sample_type: Literal["ocr_input"] = "ocr_input"
    source: Literal["upload"] = "upload"
    num_lines: None = None
    signature: None = None


class KeptFileObject(FileObject):
    """The same when it is asked for later."""

    deleted: Literal[False] = False


class FileReference(BaseModel):
    """A file that was uploaded."""

    type: Literal["file"] = "file"
    file_id: str


class DocumentUrl(BaseModel):
    """A document at an address, or in it (``data:``)."""

    type: Literal["document_url"] = "document_url"
    document_url: str
    document_name: str | None = None

    @property
    def address(self) -> str:
        return self.document_url


class _NamedUrl(BaseModel):
    url: str


class ImageUrl(BaseModel):
    """The same for an image."""

    type: Literal["image_url"] = "image_url"
    image_url: str | _NamedUrl

    @property
    def address(self) -> str:
        return self.image_url if isinstance(self.image_url, str) else self.image_url.url


class OcrRequest(BaseModel):
    """The fields that matter here; ``model`` and the options for images, blocks and confidences
    are read and have no effect."""

    model_config = ConfigDict(protected_namespaces=())

    model: str | None = None
    document: DocumentUrl | ImageUrl | FileReference
    pages: str | list[int] | None = None
    bbox_annotation_format: dict[str, Any] | None = None
    document_annotation_format: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _asks_for_no_annotations(self) -> Self:
        for name in ("bbox_annotation_format", "document_annotation_format"):
            if (getattr(self, name) or {}).get("type", "text") != "text":
                raise ValueError(f"{name} cannot be served: there is no language model here")
        return self


def page_numbers(pages: str | list[int] | None) -> set[int] | None:
    """The requested pages, counted from 1; None for all. The request counts from 0, and may say
    ``"0,2-4"``.

    Raises:
        HTTPException: 422, it is not such a list.
    """
    if pages is None or pages in ("", []):
        return None
    numbers: set[int] = set()
    left = _MAX_PAGES
    for part in pages.split(",") if isinstance(pages, str) else map(str, pages):
        found = _RANGE.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if last < first:
            raise HTTPException(422, f"pages: {part!r} is neither a page nor a range such as 0-5.")
        left -= last - first + 1
        if left < 0:
            raise HTTPException(422, f"pages: more than {_MAX_PAGES} pages are listed.")
        numbers.update(range(first + 1, last + 2))
    return numbers
