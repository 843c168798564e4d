from __future__ import annotations

import pytest
from fastapi import HTTPException

from docling_serve.api.document_version import parse_document_version_header


@pytest.mark.parametrize(
    ("value", "target"),
    [
        (None, None),
        ("1.10.0", None),
        ("1.11.0", None),
        ("99.0.0", None),
        ("1.5.0", "1.5.0"),
        ("1.9.0", "1.9.0"),
        ("1.9.7", "1.9.7"),
        ("01.08.00", "1.8.0"),
    ],
)
def test_versions_to_project_to(value: str | None, target: str | None) -> None:
    assert parse_document_version_header(value) == target


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ("1.4.0", "unsupported Accept-Docling-Document-Version '1.4.0'; oldest supported is 1.5.0"),
        ("0.9.9", "unsupported Accept-Docling-Document-Version '0.9.9'; oldest supported is 1.5.0"),
        ("abc", "unparseable Accept-Docling-Document-Version 'abc'"),
        ("", "unparseable Accept-Docling-Document-Version ''"),
        ("1.8", "unparseable Accept-Docling-Document-Version '1.8'"),
        ("1.8.-1", "unparseable Accept-Docling-Document-Version '1.8.-1'"),
        ("1.8.0\n", "unparseable Accept-Docling-Document-Version '1.8.0\n'"),
        ("1.8.\u0661", "unparseable Accept-Docling-Document-Version '1.8.\u0661'"),
        ("1.1234567890.0", "unparseable Accept-Docling-Document-Version '1.1234567890.0'"),
    ],
)
def test_refused_versions(value: str, detail: str) -> None:
    with pytest.raises(HTTPException) as caught:
        parse_document_version_header(value)
    assert (caught.value.status_code, caught.value.detail) == (422, detail)
