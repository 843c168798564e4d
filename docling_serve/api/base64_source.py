"""Strict base64 of documents sent in JSON, decoded piece by piece.

Python's default decoder skips what is not base64, so a broken or unusual encoding would become
a broken or empty document. Here it is a 422 that names the field (upstream E41).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import BinaryIO, NoReturn

from fastapi.exceptions import RequestValidationError

_PIECE_CHARS = 1 << 20  # bounds the memory a decode needs in addition to the text itself
_SHOWN_CHARS = 40


def iter_base64_source(text: str, loc: tuple[str | int, ...]) -> Iterator[bytes]:
    """Decode ``text`` into pieces of at most 768 KiB.

    Line breaks and spaces are allowed, as ``base64`` without ``-w 0`` writes them.

    Raises:
        RequestValidationError: at ``loc``, when the text has a character outside the standard
            alphabet (RFC 4648, section 4), or lacks padding. It is raised at the faulty piece, so
            the caller must discard the pieces decoded before it.
    """
    if text[:5].lower() == "data:":
        _refuse(text, loc, "send the base64 text alone, without the 'data:...;base64,' before it")
    rest, ended = "", False
    for start in range(0, len(text), _PIECE_CHARS):
        piece = rest + "".join(text[start : start + _PIECE_CHARS].split())
        whole = len(piece) - len(piece) % 4
        piece, rest = piece[:whole], piece[whole:]
        if not piece:
            continue
        if ended:
            _refuse(text, loc, "there is text after the padding")
        ended = piece.endswith("=")
        try:
            decoded = None if piece.endswith("===") else base64.b64decode(piece, validate=True)
        except (binascii.Error, ValueError):
            decoded = None
        if decoded is None:
            _refuse(text, loc, "only A-Z, a-z, 0-9, '+', '/' and padding '=' at the end may occur")
        yield decoded
    if rest:
        _refuse(text, loc, "the number of characters is not a multiple of 4; is it complete?")


def decode_base64_source(text: str, loc: tuple[str | int, ...]) -> bytes:
    """All of :func:`iter_base64_source` at once."""
    return b"".join(iter_base64_source(text, loc))


def write_base64_source(text: str, file: BinaryIO, loc: tuple[str | int, ...]) -> int:
    """Decode ``text`` into ``file``; returns the number of bytes written.

    Raises:
        RequestValidationError: as :func:`iter_base64_source`; the file is then incomplete.
    """
    return sum(file.write(piece) for piece in iter_base64_source(text, loc))


def base64_loc(index: int) -> tuple[str | int, ...]:
    """Where the base64 text of source ``index`` is in a JSON request."""
    return ("body", "sources", index, "file", "base64_string")


def _refuse(text: str, loc: tuple[str | int, ...], reason: str) -> NoReturn:
    error = {
        "type": "value_error",
        "loc": loc,
        "msg": f"Value error, not valid base64: {reason}",
        "input": text[:_SHOWN_CHARS],
    }
    raise RequestValidationError([error]) from None
