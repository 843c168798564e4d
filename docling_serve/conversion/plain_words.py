"""Explains what is wrong with a document, in terms of the document.

docling's own texts name its classes, keys and hashes, and the errors of libraries below it. Taken
from docling 2.140; a text that is not known here and names none of these is kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from docling.datamodel.base_models import FormatToExtensions, InputFormat

#: Reported for a file that its reader could not open.
_NOT_OPENED = re.compile(
    r"could not (?:load|parse|open|initialize)\b|failed to load|error occurred while opening"
    r"|is truncated|cannot identify image|unexpected eof|bad zip|not a zip file|could not decode",
    re.I,
)
_NOT_TEXT = re.compile(r"neither UTF-8 nor|cannot be decoded", re.I)
_TOO_DEEP = re.compile(r"maximum recursion depth", re.I)
_TABLE = re.compile(r"Table of (\d+)x(\d+) cells exceeds the limit of (\d+)")
_NOT_ALLOWED = re.compile(r"File format not allowed: .*")
#: Meaningful only to docling's developers.
_INTERNAL = re.compile(
    r"cython|\bobject has no attribute\b|\bobject is not\b|'NoneType'|\bnot supported between\b"
    r"|positional argument|list index out of range|pydantic|[0-9a-f]{32,}|\b0x[0-9a-f]{6,}"
    r"|\b\w+Backend\b|__\w+__"
)
_WORDS = (
    (_TOO_DEEP, "is nested too deeply"),
    (_NOT_TEXT, "is not text in UTF-8 or in the encoding that it declares"),
    (_NOT_OPENED, "is damaged or not a valid {} file"),
    (_INTERNAL, "has content that the converter cannot read"),
)


def plain(message: str, name: str, size: int | None, formats: Sequence[InputFormat]) -> str:
    """``message`` of docling about the document ``name`` of ``size`` bytes (None: unknown), in
    terms of the document. ``formats`` are those that this server accepts."""
    if size == 0:
        return f"{name} is empty."
    if _NOT_ALLOWED.search(message):
        return f"File format not allowed: {name}. Accepted are {accepted(formats)}."
    table = _TABLE.search(message)
    if table:
        rows, columns, limit = table.groups()
        return f"{name} has a table of {rows} by {columns} cells; {limit} cells are allowed."
    for pattern, words in _WORDS:
        if pattern.search(message):
            return f"{name} {words.format(_kind(name))}."
    return message


def _kind(name: str) -> str:
    return PurePath(name).suffix.lstrip(".").upper() or "readable"


def accepted(formats: Sequence[InputFormat]) -> str:
    """The file name extensions of ``formats``, for a person."""
    endings = {ending for format_ in formats for ending in FormatToExtensions.get(format_, [])}
    return ", ".join(sorted(endings))
