"""Failures speak of the document, not of docling's classes, keys and hashes."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from docling.datamodel.base_models import InputFormat

from docling_serve.conversion.conversion import Conversion
from docling_serve.conversion.plain_words import plain
from docling_serve.jobs.spec import JobSpec, TaskFolder
from tests.helpers.oversized import many_entries

HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
JUNK = bytes(range(256)) * 20
INTERNAL = re.compile(r"[0-9a-f]{32}|Backend|docling|cython|hash", re.I)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            f"docling-parse could not load document {HASH}",
            "a.pdf is damaged or not a valid PDF file.",
        ),
        ("An unexpected error occurred while opening the document a.pdf.", "a.pdf is damaged"),
        ("'cython_function_or_method' object is not iterable", "a.pdf has content that"),
        (f"Inconsistent number of pages: 3!=0 for {HASH}", "a.pdf has content that"),
        ("maximum recursion depth exceeded", "a.pdf is nested too deeply."),
        ("Table of 1001x1000 cells exceeds the limit of 1000000 cells", "1001 by 1000 cells"),
        ("File format not allowed: a.pdf", "Accepted are htm, html, md, qmd, rmd, rmarkdown"),
        (
            "Document size exceeds the limit of 5 bytes",
            "Document size exceeds the limit of 5 bytes",
        ),
    ],
)
def test_the_words_are_about_the_document(message: str, expected: str) -> None:
    formats = [InputFormat.MD, InputFormat.HTML]
    said = plain(message, "a.pdf", 9, formats)
    if message.startswith("File format"):
        assert {"md", "html"} <= set(said.partition("Accepted are ")[2].rstrip(".").split(", "))
    else:
        assert expected in said
    assert not INTERNAL.search(said)


def test_an_empty_document_is_called_empty() -> None:
    assert plain("could not load document", "a.pdf", 0, []) == "a.pdf is empty."


@pytest.fixture(scope="module")
def conversion() -> Conversion:
    return Conversion({})


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.docx", b"", "a.docx is empty."),
        ("a.json", b"", "a.json is empty."),
        ("a.docx", JUNK, "a.docx is damaged or not a valid DOCX file."),
        ("a.xlsx", JUNK, "a.xlsx is damaged or not a valid XLSX file."),
        ("a.pptx", many_entries(2), "a.pptx is damaged or not a valid PPTX file."),
        ("a.md", JUNK, "a.md is not text in UTF-8 or in the encoding that it declares."),
        ("a.vtt", JUNK, "a.vtt is damaged or not a valid VTT file."),
        ("a.xyz", b"zzz", "File format not allowed: a.xyz. Accepted are "),
    ],
)
def test_docling_fails_in_our_words(
    conversion: Conversion, tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    assert converted(conversion, tmp_path, content, name)["error_message"].startswith(words)


def converted(conversion: Conversion, parent: Path, content: bytes, name: str) -> dict[str, Any]:
    """The one error of a document."""
    folder = TaskFolder.create(parent, "task")
    folder.input(0).write_bytes(content)
    source = {"kind": "file", "path": "input/0", "filename": name}
    spec = JobSpec.from_task_dict({"task_id": "task", "sources": [source]})
    conversion.run(spec, folder)
    (error,) = json.load(io.BytesIO(folder.body.read_bytes()))["errors"]
    return dict(error)


def test_a_host_that_is_not_there_is_named(conversion: Conversion, tmp_path: Path) -> None:
    folder = TaskFolder.create(tmp_path, "task")
    source = {"kind": "http", "url": "http://nowhere.invalid/a.pdf"}
    conversion.run(JobSpec.from_task_dict({"task_id": "task", "sources": [source]}), folder)
    (error,) = json.loads(folder.body.read_bytes())["errors"]
    assert error["error_message"] == "The host nowhere.invalid does not resolve."
