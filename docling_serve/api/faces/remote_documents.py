"""Documents named by an address: one of this server's files, data in it, or elsewhere."""

from __future__ import annotations

import re
import tempfile
from typing import BinaryIO, cast
from urllib.parse import unquote_to_bytes, urlsplit

from docling.datamodel.service.requests import HttpSourceRequest
from fastapi import HTTPException
from pydantic import ValidationError

from docling_serve.api.base64_source import write_base64_source

_OWN_FILE = re.compile(r"/v1/files/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/content")
_SPOOL_BYTES = 1024 * 1024


def own_file_id(url: str) -> str | None:
    """The id of the uploaded file that ``url`` addresses. The host is ignored: a proxy may have
    another name than this server, and ids cannot be guessed."""
    if not url.startswith(("http://", "https://")):
        return None
    try:
        path = urlsplit(url).path
    except ValueError:
        return None
    found = _OWN_FILE.search(path)
    return found[1] if found and path.endswith(found[0]) else None


def decoded_data_url(url: str) -> tuple[BinaryIO, str]:
    """The content of a ``data:`` URL (RFC 2397) as a file to be closed, and its media type. Blocks.

    Raises:
        HTTPException: 422, the URL is malformed.
        RequestValidationError: it is not valid base64.
    """
    described, comma, data = url.removeprefix("data:").partition(",")
    if not comma:
        raise HTTPException(422, "The data URL has no comma and so contains no data.")
    media_type, *parameters = described.split(";")
    spool = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES))  # noqa: SIM115
    if "base64" in parameters:
        write_base64_source(data, spool, ("body", "document"))
    else:
        spool.write(unquote_to_bytes(data))
    spool.seek(0)
    return spool, media_type or "text/plain"


def http_source(url: str) -> HttpSourceRequest:
    """The source of a document elsewhere, which a worker fetches.

    Raises:
        HTTPException: 422, it is not a valid address.
    """
    try:
        return HttpSourceRequest.model_validate({"url": url})
    except ValidationError as exc:
        reason = exc.errors(include_url=False)[0]["msg"]
        raise HTTPException(422, f"The address of the document cannot be used: {reason}.") from exc
