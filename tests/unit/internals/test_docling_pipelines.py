"""Pipelines with shared models are what docling would have made."""

from __future__ import annotations

import copy
import gc
from typing import Any

import pytest
from docling.datamodel.pipeline_options import (
    HeadingHierarchyOptions,
    OcrMode,
    PdfPipelineOptions,
    PictureDescriptionApiOptions,
    RapidOcrOptions,
    TableFormerMode,
    TableStructureOptions,
    ThreadedPdfPipelineOptions,
    VlmConvertOptions,
    VlmPipelineOptions,
)
from docling.datamodel.vlm_engine_options import ApiVlmEngineOptions
from docling.models.factories import (
    get_layout_factory,
    get_ocr_factory,
    get_table_structure_factory,
)
from docling.models.inference_engines.vlm.base import VlmEngineType
from docling.pipeline.asr_pipeline import AsrPipeline
from docling.pipeline.base_pipeline import BasePipeline
from docling.pipeline.simple_pipeline import SimplePipeline
from docling.pipeline.standard_pdf_pipeline import StandardPdfPipeline
from docling.pipeline.vlm_pipeline import VlmPipeline

from docling_serve.conversion.imports import import_all
from docling_serve.conversion.model_sets import ModelSets
from docling_serve.internals.docling_pipelines import Blueprint, shallow_clone
from docling_serve.ocr_only.options import FullPageLayoutOptions, NoTableStructureOptions
from tests.helpers.pipelines import describe

_DESCRIBE = PictureDescriptionApiOptions(url="http://127.0.0.1:9/never-called")

SAME_MODELS: dict[str, dict[str, Any]] = {
    "time-out": {"document_timeout": 5.0},
    "scale": {"images_scale": 2.5},
    "page images": {"generate_page_images": True, "images_scale": 1.5},
    "picture images": {"generate_picture_images": True},
    "parsed pages": {"generate_parsed_pages": True},
    "headings": {"heading_hierarchy_options": HeadingHierarchyOptions(enabled=True)},
    "full-page OCR": {"ocr_options": RapidOcrOptions(mode=OcrMode.FULL_PAGE)},
}
OTHER_MODELS: dict[str, dict[str, Any]] = {
    "OCR off": {"do_ocr": False},
    "OCR language": {"ocr_options": RapidOcrOptions(lang=["en"])},
    "tables off": {"do_table_structure": False},
    "table mode": {"table_structure_options": TableStructureOptions(mode=TableFormerMode.FAST)},
    "layout": {"layout_options": FullPageLayoutOptions(keep_empty_clusters=True)},
    "description": {"do_picture_description": True},
    "classification": {"do_picture_classification": True},
    "code": {"do_code_enrichment": True},
    "charts": {"do_chart_extraction": True},
    "remote services": {"enable_remote_services": True},
    "not known to this package": {"force_backend_text": True},
}


def pdf_options(**changes: Any) -> ThreadedPdfPipelineOptions:
    """Options of a pipeline that needs no weights; nothing in it is shared with other ones."""
    plain: dict[str, Any] = {
        "allow_external_plugins": True,
        "layout_options": FullPageLayoutOptions(),
        "table_structure_options": NoTableStructureOptions(),
        "ocr_options": RapidOcrOptions(),
    }
    return ThreadedPdfPipelineOptions(**copy.deepcopy(plain | changes))


def vlm_options(**changes: Any) -> VlmPipelineOptions:
    engine = ApiVlmEngineOptions(engine_type=VlmEngineType.API, url="http://127.0.0.1:9/never")
    model = VlmConvertOptions.from_preset("granite_docling", engine_options=engine)
    return VlmPipelineOptions(vlm_options=model, enable_remote_services=True, **changes)


class Sharing:
    """Builds pipelines as the requests of one worker do."""

    def __init__(self) -> None:
        self.sets = ModelSets(2)

    def build(self, cls: type[BasePipeline], options: Any) -> Any:
        blueprint = Blueprint(cls, options)
        model_set = self.sets.open(blueprint.keys)
        pipeline = blueprint.build(lambda key, load: self.sets.model(model_set, key, load))
        self.sets.keep(model_set)
        return pipeline


@pytest.mark.parametrize("changes", SAME_MODELS.values(), ids=SAME_MODELS)
def test_options_that_change_no_model_make_no_other_set(changes: dict[str, Any]) -> None:
    plain = Blueprint(StandardPdfPipeline, pdf_options())
    assert Blueprint(StandardPdfPipeline, pdf_options(**changes)).keys == plain.keys


@pytest.mark.parametrize("changes", OTHER_MODELS.values(), ids=OTHER_MODELS)
def test_options_that_select_models_make_another_set(changes: dict[str, Any]) -> None:
    plain = Blueprint(StandardPdfPipeline, pdf_options())
    assert Blueprint(StandardPdfPipeline, pdf_options(**changes)).keys != plain.keys


def test_keys_do_not_follow_later_changes_of_the_options() -> None:
    options = pdf_options()
    before = Blueprint(StandardPdfPipeline, options).keys
    options.layout_options.keep_empty_clusters = True
    assert Blueprint(StandardPdfPipeline, options).keys != before
    assert before == Blueprint(StandardPdfPipeline, pdf_options()).keys


@pytest.mark.parametrize(
    "changes",
    [*SAME_MODELS.values(), {"do_table_structure": False}],
    ids=[*SAME_MODELS, "tables off"],
)
def test_a_pdf_pipeline_is_as_docling_makes_it(changes: dict[str, Any]) -> None:
    sharing = Sharing()
    for other in SAME_MODELS.values():  # what a worker may have run before
        sharing.build(StandardPdfPipeline, pdf_options(do_ocr=False, **other))
    shared = sharing.build(StandardPdfPipeline, pdf_options(do_ocr=False, **changes))
    fresh = StandardPdfPipeline(pdf_options(do_ocr=False, **changes))
    assert describe(shared) == describe(fresh)


def test_plugins_are_loaded_once_in_a_process() -> None:
    """A forked worker has them from its template; loading them again costs it 50 ms each."""
    import_all(allow_external_plugins=True)
    factories = (get_ocr_factory, get_layout_factory, get_table_structure_factory)
    before = [factory.cache_info().misses for factory in factories]

    Sharing().build(StandardPdfPipeline, pdf_options(do_ocr=False))
    assert Blueprint(StandardPdfPipeline, pdf_options()).keys

    assert [factory.cache_info().misses for factory in factories] == before


def test_enrichment_models_are_as_docling_makes_them() -> None:
    changes = {
        "do_ocr": False,
        "do_picture_description": True,
        "picture_description_options": _DESCRIBE,
        "enable_remote_services": True,
        "generate_picture_images": True,
    }
    sharing = Sharing()
    sharing.build(StandardPdfPipeline, pdf_options(do_ocr=False))
    shared = sharing.build(StandardPdfPipeline, pdf_options(**changes))
    assert describe(shared) == describe(StandardPdfPipeline(pdf_options(**changes)))


@pytest.mark.parametrize(
    "changes",
    [{}, {"generate_page_images": False}, {"images_scale": 2.5, "document_timeout": 3.0}],
    ids=["plain", "no page images", "scale"],
)
def test_a_vlm_pipeline_is_as_docling_makes_it(changes: dict[str, Any]) -> None:
    sharing = Sharing()
    sharing.build(VlmPipeline, vlm_options(images_scale=4.0))
    shared = sharing.build(VlmPipeline, vlm_options(**changes))
    assert describe(shared) == describe(VlmPipeline(vlm_options(**changes)))
    assert sharing.sets.stats.hits == 1


def test_a_description_model_serves_pdfs_and_office_files_with_each_request_s_threshold() -> None:
    def options(threshold: float) -> PdfPipelineOptions:
        description = _DESCRIBE.model_copy(update={"picture_area_threshold": threshold})
        return pdf_options(
            do_ocr=False,
            do_picture_description=True,
            picture_description_options=description,
            enable_remote_services=True,
        )

    sharing = Sharing()
    pipelines = [
        sharing.build(StandardPdfPipeline, options(0.1)),
        sharing.build(StandardPdfPipeline, options(0.4)),
        sharing.build(SimplePipeline, options(0.7)),
    ]
    models = [pipeline.enrichment_pipe[-1] for pipeline in pipelines]
    assert [model.options.picture_area_threshold for model in models] == [0.1, 0.4, 0.7]
    assert len({id(model._clone_of) for model in models}) == 1


def test_a_simple_pipeline_without_enrichment_needs_no_model() -> None:
    blueprint = Blueprint(SimplePipeline, pdf_options())
    assert blueprint.keys == ()
    shared = Sharing().build(SimplePipeline, pdf_options(images_scale=2.0))
    assert describe(shared) == describe(SimplePipeline(pdf_options(images_scale=2.0)))


def test_a_pipeline_unknown_here_is_shared_as_a_whole_and_by_all_its_options() -> None:
    plain = Blueprint(AsrPipeline, AsrPipeline.get_default_options())
    timed = AsrPipeline.get_default_options().model_copy(update={"document_timeout": 1.0})
    assert len(plain.keys) == 1
    assert Blueprint(AsrPipeline, AsrPipeline.get_default_options()).keys == plain.keys
    assert Blueprint(AsrPipeline, timed).keys != plain.keys


class Engine:
    """Something that a model closes when it goes."""

    def __init__(self) -> None:
        self.closed = 0


class Closing:
    def __init__(self) -> None:
        self.engine = Engine()
        self.options = "first"

    def __del__(self) -> None:
        self.engine.closed += 1


def test_the_end_of_a_clone_does_not_close_what_it_shares() -> None:
    model = Closing()
    engine = model.engine
    shown = shallow_clone(model, options="second")
    assert (shown.options, model.options) == ("second", "first")
    assert isinstance(shown, Closing)
    del shown
    gc.collect()
    assert engine.closed == 0
    del model
    gc.collect()
    assert engine.closed == 1


def test_a_model_outlives_its_clones() -> None:
    model = Closing()
    engine = model.engine
    shown = shallow_clone(shallow_clone(model, options="second"), options="third")
    del model
    gc.collect()
    assert engine.closed == 0
    assert shown.options == "third"
