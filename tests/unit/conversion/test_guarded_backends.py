"""docling's readers refuse what is too large, whatever way it came."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from docling.datamodel.base_models import ConversionStatus, DocumentStream, FailureCategory
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling_jobkit.convert.manager import DoclingConverterManagerConfig

from docling_serve.conversion.converters import Converters
from docling_serve.conversion.failures import document_failure, tidy
from docling_serve.conversion.input_limits import InputLimits
from docling_serve.errors import TOO_LARGE
from docling_serve.internals.jobkit_manager import ConverterManager
from tests.helpers import oversized

DOCUMENTS = {
    "a.png": oversized.png_header(5000, 5000),
    "a.pdf": oversized.pdf_of((5000, 5000)),
    "a.docx": oversized.packed_zeros(65),
}


@pytest.fixture(scope="module")
def converters() -> Converters:
    manager = ConverterManager(DoclingConverterManagerConfig())
    return Converters(manager, InputLimits(max_image_pixels=1_000_000))


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("as_file", [False, True])
def test_a_document_that_is_too_large_fails_by_itself(
    converters: Converters, name: str, as_file: bool, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(DOCUMENTS[name])
    stream = DocumentStream(name=name, stream=io.BytesIO(DOCUMENTS[name]))
    converter = converters.converter(ConvertDocumentsOptions())
    result = converter.convert(path if as_file else stream, raises_on_error=False)
    tidy(result)

    assert result.status is ConversionStatus.FAILURE
    assert [error.category for error in result.errors] == [FailureCategory.POLICY]
    failure = document_failure(result, name, 1)
    assert failure is not None
    assert failure.details == {"document": name, "document_number": "1", "reason": TOO_LARGE}


def test_others_are_read_as_ever(converters: Converters) -> None:
    stream = DocumentStream(name="a.md", stream=io.BytesIO(b"# T"))
    result = converters.converter(ConvertDocumentsOptions()).convert(stream)

    assert result.document.export_to_markdown() == "# T"
