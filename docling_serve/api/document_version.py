"""The ``Accept-Docling-Document-Version`` header: which document schema the client can read."""

from __future__ import annotations

import re

from docling_core.types.doc.common.constants import CURRENT_VERSION, FIRST_SUPPORTED_MINOR
from fastapi import HTTPException

HEADER = "Accept-Docling-Document-Version"

# Nine digits cover any realistic version number, and keep a hostile one cheap to parse.
_VERSION = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})")
_NATIVE = tuple(int(part) for part in CURRENT_VERSION.split("."))
_OLDEST = (_NATIVE[0], FIRST_SUPPORTED_MINOR, 0)


def parse_document_version_header(value: str | None) -> str | None:
    """The version to project documents down to, without leading zeros, or ``None`` for native.

    ``None`` is returned for a missing header and for any version from the native one upwards.

    Raises:
        HTTPException: 422 for anything but three numbers, and for a version older than docling
            can project to (texts and bounds: upstream D38).
    """
    if value is None:
        return None
    match = _VERSION.fullmatch(value)
    if match is None:
        raise HTTPException(422, f"unparseable {HEADER} '{value}'")
    version = tuple(int(part) for part in match.groups())
    if version < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise HTTPException(422, f"unsupported {HEADER} '{value}'; oldest supported is {oldest}")
    if version >= _NATIVE:
        return None
    return ".".join(map(str, version))
