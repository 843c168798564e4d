"""The bundled documents and the ones the tests make; no OCR here."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType

import pypdfium2  # type: ignore[import-untyped]
import pytest
from PIL import Image

from tests.helpers.documents import (
    PASSWORD,
    blank_pdf,
    broken_pdf,
    encrypted_pdf,
    scanned_pdf,
    scanned_png,
)

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("make_documents", EXAMPLES / "make_documents.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_folder_holds_what_the_generator_writes(generator: ModuleType) -> None:
    folder = EXAMPLES / "documents"
    made = generator.documents()
    assert {file.name for file in folder.iterdir()} == set(made)
    # The compressed bytes depend on the versions of zlib and libjpeg; the texts do not.
    for name in ("page.html", "notes.md", "expected.json"):
        assert (folder / name).read_bytes() == made[name]
    assert sum(file.stat().st_size for file in folder.iterdir()) < 400_000


def test_the_generator_repeats_itself(generator: ModuleType) -> None:
    page = generator.SCAN_PAGES[1]
    first, again = (generator.pdf_of([generator.scan(page, seed=5)]) for _ in range(2))
    assert first == again
    assert generator.docx_of(generator.LETTER) == generator.docx_of(generator.LETTER)


def test_expected_phrases_are_in_the_sources(generator: ModuleType) -> None:
    expected = json.loads((EXAMPLES / "documents" / "expected.json").read_text())
    for page in (*generator.SCAN_PAGES, generator.PNG_PAGE):
        cells = [cell for row in page.table for cell in row]
        text = "\n".join([page.title, *page.paragraphs, *page.columns, *cells, page.closing])
        assert [phrase for phrase in page.phrases if phrase not in text] == []
    plain = {"page.html": generator.HTML, "notes.md": generator.MARKDOWN}
    for name, text in plain.items():
        assert [phrase for phrase in expected[name]["phrases"] if phrase not in text] == []
    letter = "\n".join(["Invitation", *generator.LETTER])
    assert [phrase for phrase in expected["letter.docx"]["phrases"] if phrase not in letter] == []


def test_the_scan_has_no_text_layer() -> None:
    with pypdfium2.PdfDocument(EXAMPLES / "documents" / "scan.pdf") as document:
        assert [page.get_textpage().get_text_range() for page in document] == ["", "", ""]


def test_made_documents_open_or_do_not() -> None:
    with pypdfium2.PdfDocument(blank_pdf(pages=2)) as blank:
        assert len(blank) == 2
    with pypdfium2.PdfDocument(scanned_pdf(pages=3, words=["One"])) as scanned:
        assert len(scanned) == 3
    assert Image.open(BytesIO(scanned_png(["One"]))).size == (620, 874)
    with pytest.raises(pypdfium2.PdfiumError):
        pypdfium2.PdfDocument(broken_pdf())


def test_the_encrypted_document_opens_with_its_password_only() -> None:
    with pytest.raises(pypdfium2.PdfiumError, match="password"):
        pypdfium2.PdfDocument(encrypted_pdf())
    with pypdfium2.PdfDocument(encrypted_pdf(), password=PASSWORD) as opened:
        assert opened[0].get_textpage().get_text_range() == "Behind the lock"
