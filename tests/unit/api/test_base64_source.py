from __future__ import annotations

import base64
import os
from io import BytesIO

import pytest
from fastapi.exceptions import RequestValidationError

from docling_serve.api.base64_source import (
    base64_loc,
    decode_base64_source,
    iter_base64_source,
    write_base64_source,
)

LOC = base64_loc(3)
LARGE = os.urandom(2_500_001)


@pytest.mark.parametrize("content", [b"a", b"ab", b"abc", bytes(range(256)), LARGE], ids=len)
def test_round_trip_over_any_length(content: bytes) -> None:
    text = base64.b64encode(content).decode()
    assert decode_base64_source(text, LOC) == content


def test_line_breaks_are_allowed_anywhere() -> None:
    text = base64.encodebytes(LARGE).decode().replace("\n", "\r\n")
    assert decode_base64_source(f"\n{text}\n", LOC) == LARGE


def test_pieces_are_bounded() -> None:
    pieces = list(iter_base64_source(base64.b64encode(LARGE).decode(), LOC))
    assert len(pieces) > 1
    assert max(map(len, pieces)) <= 768 * 1024


def test_writes_to_a_file() -> None:
    file = BytesIO()
    assert write_base64_source(base64.b64encode(LARGE).decode(), file, LOC) == len(LARGE)
    assert file.getvalue() == LARGE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("!!!", "is it complete?"),
        ("!!!!", "only A-Z"),
        ("QQ", "is it complete?"),
        ("QQ=", "is it complete?"),
        ("Q===", "only A-Z"),
        ("====", "only A-Z"),
        ("AAAA====", "only A-Z"),
        ("QQ==QQ==", "only A-Z"),
        ("Q=Q=", "only A-Z"),
        ("ab-_", "only A-Z"),
        ("\u0661AAA", "only A-Z"),
        ("data:text/plain;base64,QQ==", "without the 'data:...;base64,'"),
        ("A" * 1048572 + "QQ==" + "AAAA", "text after the padding"),
    ],
    ids=lambda text: text[:30],
)
def test_anything_else_is_refused_and_names_the_field(text: str, reason: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        decode_base64_source(text, LOC)
    (error,) = caught.value.errors()
    assert error["loc"] == ("body", "sources", 3, "file", "base64_string")
    assert error["type"] == "value_error"
    assert reason in error["msg"]
    assert len(error["input"]) <= 40


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_document_is_one_as_an_empty_upload_is(text: str) -> None:
    assert decode_base64_source(text, LOC) == b""
