"""Shared models give what docling's own converters give, for every mix of options."""

from __future__ import annotations

import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from docling.datamodel.base_models import DocumentStream, InputFormat
from docling.datamodel.pipeline_options import OcrMode
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling_jobkit.convert.manager import DoclingConverterManager, DoclingConverterManagerConfig

from docling_serve.conversion.converters import Converters
from docling_serve.conversion.model_sets import ConverterStats
from docling_serve.internals.jobkit_manager import ConverterManager
from tests.helpers.documents import scanned_pdf
from tests.helpers.pipelines import describe

OCR_ONLY = Path(__file__).parents[2] / "examples" / "ocr-only.yaml"
SCAN = scanned_pdf()

# In this order, on one set of converters: each after what might leak into it.
MIXES: dict[str, dict[str, Any]] = {
    "scale 2, page images": {"images_scale": 2.0, "include_page_images": True},
    "scale 1, page images": {"images_scale": 1.0, "include_page_images": True},
    "OCR off": {"do_ocr": False},
    "full-page OCR, no images": {"force_ocr": True, "include_images": False},
    "tables off": {"do_table_structure": False},
}
SAME_MODELS: list[dict[str, Any]] = [
    {},
    {"images_scale": 1.0, "document_timeout": 60.0},
    {"include_page_images": True},
    {"force_ocr": True},
    {"do_pdf_heading_hierarchy": True},
]


def config() -> DoclingConverterManagerConfig:
    settings = yaml.safe_load(OCR_ONLY.read_text(encoding="utf-8"))
    return DoclingConverterManagerConfig.model_validate(settings)


def scan() -> DocumentStream:
    return DocumentStream(name="scan.pdf", stream=BytesIO(SCAN))


def converted(converter: Any) -> dict[str, Any]:
    """The whole document, images included."""
    document: dict[str, Any] = converter.convert(scan()).document.export_to_dict()
    return document


def pdf_pipeline(converters: Converters, **options: Any) -> Any:
    converter = converters.converter(ConvertDocumentsOptions(**options))
    return converter._get_pipeline(InputFormat.PDF)


@pytest.fixture(scope="module")
def shared() -> Converters:
    return Converters(ConverterManager(config()))


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_the_same_document_as_a_fresh_converter_gives(
    mix: dict[str, Any], shared: Converters
) -> None:
    options = ConvertDocumentsOptions(**mix)
    fresh = DoclingConverterManager(config())
    expected = converted(fresh.get_converter(fresh.get_pdf_pipeline_opts(options)))
    assert converted(shared.converter(options)) == expected
    assert bool(expected["texts"]) == mix.get("do_ocr", True)


def test_a_pipeline_with_ocr_is_as_docling_makes_it(shared: Converters) -> None:
    from docling.pipeline.standard_pdf_pipeline import StandardPdfPipeline  # takes a second

    for mix in SAME_MODELS[-2:]:
        options: Any = ConvertDocumentsOptions(**mix)
        options = ConverterManager(config()).get_pdf_pipeline_opts(options).pipeline_options
        assert describe(pdf_pipeline(shared, **mix)) == describe(StandardPdfPipeline(options))


def test_ocr_sessions_are_loaded_once_for_options_that_change_no_model() -> None:
    converters = Converters(ConverterManager(config()))
    readers = [pdf_pipeline(converters, **mix).ocr_model.reader for mix in SAME_MODELS]
    assert all(reader is readers[0] for reader in readers)
    german = pdf_pipeline(converters, ocr_lang=["de"])
    assert german.ocr_model.reader is not readers[0]
    assert german.layout_model is pdf_pipeline(converters).layout_model
    assert converters.stats == ConverterStats(hits=5, misses=2, model_sets=2)


def test_ocr_of_the_kind_auto_is_shared_with_each_request_s_mode() -> None:
    settings = config().model_copy(update={"custom_ocr_presets": {}, "default_ocr_kind": "auto"})
    converters = Converters(ConverterManager(settings))
    engines = [
        pdf_pipeline(converters, ocr_preset="auto", force_ocr=force).ocr_model._engine
        for force in (False, True)
    ]
    assert engines[0].reader is engines[1].reader
    assert engines[0].options.mode is OcrMode.DEFAULT
    assert engines[1].options.mode is OcrMode.FULL_PAGE
    assert converters.stats == ConverterStats(hits=1, misses=1, model_sets=1)


def test_ocr_that_is_off_loads_nothing() -> None:
    pipeline = pdf_pipeline(Converters(ConverterManager(config())), do_ocr=False)
    assert not hasattr(pipeline.ocr_model, "reader")


@pytest.mark.parametrize(
    ("changes", "preset"),
    [({}, "auto"), ({"custom_ocr_presets": {}, "default_ocr_preset": "rapidocr"}, "rapidocr")],
    ids=["auto redefined", "default preset"],
)
def test_the_first_request_finds_what_was_warmed_up(changes: dict[str, Any], preset: str) -> None:
    converters = Converters(ConverterManager(config().model_copy(update=changes)))
    converters.warm_up()
    assert converters.holds_models
    pdf_pipeline(converters, ocr_preset=preset, images_scale=3.0)
    assert converters.stats == ConverterStats(hits=1, misses=1, model_sets=1)


def test_requests_at_the_same_time_keep_their_own_options(shared: Converters) -> None:
    mixes: list[dict[str, Any]] = [MIXES["scale 1, page images"], {"force_ocr": True}]
    expected = [converted(shared.converter(ConvertDocumentsOptions(**mix))) for mix in mixes]
    found: dict[int, dict[str, Any]] = {}
    start = threading.Barrier(len(mixes))

    def request(number: int) -> None:
        converter = shared.converter(ConvertDocumentsOptions(**mixes[number]))
        start.wait(30)
        found[number] = converted(converter)

    threads = [threading.Thread(target=request, args=(number,)) for number in range(len(mixes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [found[number] for number in range(len(mixes))] == expected
