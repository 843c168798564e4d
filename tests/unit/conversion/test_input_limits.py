"""What is refused before it is opened, and what is not."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from docling_serve.conversion.input_limits import (
    InputLimits,
    OverLimit,
    check_archive,
    check_document,
)
from tests.helpers import oversized
from tests.helpers.api import DOCUMENTS

LIMITS = InputLimits(
    max_pages_to_open=3,
    max_image_pixels=1_000_000,
    max_unpacked_size=80 * 1024 * 1024,
    max_unpack_ratio=200,
    max_archive_entries=10,
)


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (lambda: oversized.packed_zeros(81), "max_unpacked_size"),
        (lambda: oversized.packed_zeros(65), "max_unpack_ratio"),
        (lambda: b"X" + oversized.packed_zeros(65), "max_unpack_ratio"),
        (lambda: b"X%PDF-1.7" + oversized.packed_zeros(65), "max_unpack_ratio"),
        (lambda: b"\x1f\x8b" + oversized.packed_zeros(65), "max_unpack_ratio"),
        (lambda: b"\x1f\x8b\x08" + oversized.packed_zeros(65), "max_unpack_ratio"),
        (lambda: oversized.many_entries(11), "max_archive_entries"),
        (lambda: oversized.long_directory(1), "max_archive_entries"),
        (lambda: oversized.gzipped_zeros(65), "max_unpack_ratio"),
        (lambda: oversized.png_header(1000, 1001), "max_image_pixels"),
        (lambda: oversized.png_header(60_000, 60_000), "max_image_pixels"),
        (lambda: oversized.pdf_of(*[(100, 100)] * 4), "max_pages_to_open"),
        (lambda: oversized.pdf_of((100, 100), (334, 334)), "max_image_pixels"),
        (lambda: oversized.tiff_of(*[(10, 10)] * 4), "max_pages_to_open"),
        (lambda: oversized.tiff_of((10, 10), (1000, 1001)), "max_image_pixels"),
    ],
)
def test_too_large_is_refused_with_the_name_of_the_setting(
    make: Callable[[], bytes], setting: str
) -> None:
    with pytest.raises(OverLimit, match=setting):
        check_document(io.BytesIO(make()), LIMITS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: oversized.packed_zeros(63),
        lambda: oversized.many_entries(10),
        lambda: oversized.gzipped_zeros(1),
        lambda: oversized.png_header(1000, 1000),
        lambda: oversized.pdf_of(*[(100, 100)] * 3),
        lambda: oversized.tiff_of((10, 10), (10, 10)),
        lambda: b"",
        lambda: b"# Text",
        lambda: b"PK\x03\x04 broken",
        lambda: b"PK\x03\x04" + b"PK\x06\x06" + b"PK\x05\x06" + b"\xff" * 18,
        lambda: b"\x1f\x8b broken",
        lambda: b"%PDF-1.7 broken",
        lambda: b"\x89PNG\r\n\x1a\n broken",
    ],
)
def test_the_rest_passes_and_is_left_at_its_start(make: Callable[[], bytes]) -> None:
    content = make()
    document = io.BytesIO(content)
    check_document(document, LIMITS)
    assert document.read() == content


@pytest.mark.parametrize("path", sorted(DOCUMENTS.glob("*.*")), ids=lambda path: path.name)
def test_the_examples_pass(path: Path) -> None:
    with path.open("rb") as file:
        check_document(file, InputLimits())


def test_only_archives_are_looked_into_beforehand() -> None:
    check_archive(io.BytesIO(oversized.png_header(60_000, 60_000)), LIMITS)
    with pytest.raises(OverLimit):
        check_archive(io.BytesIO(oversized.packed_zeros(65)), LIMITS)
