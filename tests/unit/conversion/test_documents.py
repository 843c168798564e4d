"""What of a source docling is given, and how much of it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from docling.datamodel.base_models import ConversionStatus, DocumentStream, InputFormat
from docling.datamodel.document import ConversionResult
from docling.document_converter import DocumentConverter

from docling_serve.conversion.documents import converted
from docling_serve.conversion.input_limits import InputLimits
from docling_serve.conversion.reports import ProgressTracker
from docling_serve.jobs.spec import RemoteUrl, StagedFile, TaskFolder

LIMITS = InputLimits(max_unpacked_size=7, max_unpack_ratio=200)
ADDRESS = RemoteUrl(url="https://example.com/a")


def convert(folder: TaskFolder, source: Any, convert_all: Any) -> list[ConversionResult]:
    tracker = ProgressTracker(lambda _: None, num_docs=1)
    results = converted([source], convert_all, folder, tracker, False, LIMITS)
    return [result for result, _, _ in results]


def test_only_what_is_fetched_is_bounded_by_what_an_archive_may_be(tmp_path: Path) -> None:
    asked: list[int] = []

    def convert_all(
        sources: list[Any], *, at_most_bytes: int = sys.maxsize
    ) -> Iterable[ConversionResult]:
        asked.append(at_most_bytes)
        return []

    folder = TaskFolder.create(tmp_path, "t")
    folder.input(0).write_text("# longer than that")
    convert(folder, StagedFile(path="input/0", filename="a.md"), convert_all)
    convert(folder, ADDRESS, convert_all)
    assert asked == [sys.maxsize, 7]


def test_the_limit_has_the_name_of_its_setting(tmp_path: Path) -> None:
    """docling's own words, for a document of eight bytes where seven are allowed."""

    def convert_all(
        sources: list[Any], *, at_most_bytes: int = sys.maxsize
    ) -> Iterable[ConversionResult]:
        stream = DocumentStream(name="a.md", stream=BytesIO(b"# longer"))
        return DocumentConverter(allowed_formats=[InputFormat.MD]).convert_all(
            [stream], max_file_size=at_most_bytes, raises_on_error=False
        )

    folder = TaskFolder.create(tmp_path, "t")
    (result,) = convert(folder, ADDRESS, convert_all)
    assert result.status is ConversionStatus.FAILURE
    assert "exceeds the max_unpacked_size limit of 7 bytes" in result.errors[0].error_message
