"""Pipelines of docling that share their models: one light pipeline per request, models loaded once.

docling makes a pipeline, models included, for every combination of options. Here a pipeline is made
once without the options that change between requests, and copied for each request. The copy gets
the request's options, what docling derives from them, and for each enabled stage a model that
depends only on the stage's own options. An option that a later docling adds counts for choosing
models until it is listed here, so that it cannot leak between requests.

docling's own cache would need less code. With the embedded profile each further combination of
options then takes 0.25 s, and 230 to 360 MB once a page was converted; here it takes 1 ms, and
models are not made again.

Read from docling-slim 2.143 (``standard_pdf_pipeline``, ``vlm_pipeline`` and ``base_pipeline`` of
``docling.pipeline``). Guarded by tests/unit/internals/test_docling_pipelines.py, which compares
these pipelines with docling's own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any, Protocol, TypeVar

from docling.datamodel.pipeline_options import ConvertPipelineOptions, PipelineOptions
from docling.models.base_ocr_model import BaseOcrModel
from docling.models.factories import (
    get_ocr_factory,
    get_picture_description_factory,
    get_table_structure_factory,
)
from docling.models.picture_description_base_model import PictureDescriptionBaseModel
from docling.models.stages.code_formula.code_formula_vlm_model import CodeFormulaVlmModel
from docling.models.stages.heading_hierarchy.heading_hierarchy_model import HeadingHierarchyModel
from docling.models.stages.page_preprocessing.page_preprocessing_model import (
    resolve_skip_cell_extraction,
)
from docling.models.stages.picture_classifier.document_picture_classifier import (
    DocumentPictureClassifier,
)
from docling.pipeline.base_pipeline import BasePipeline
from docling.pipeline.simple_pipeline import SimplePipeline
from docling.pipeline.standard_pdf_pipeline import StandardPdfPipeline
from docling.pipeline.vlm_pipeline import VlmPipeline
from pydantic import BaseModel

Key = tuple[Any, ...]
"""Everything that determines a model: equal keys stand for the same model."""

Loaded = TypeVar("Loaded")
Options = TypeVar("Options", bound=BaseModel)

#: Options that a copied pipeline takes from its request: read while it runs, or handled below.
PER_REQUEST = (
    "document_timeout",
    "images_scale",
    "generate_page_images",
    "generate_picture_images",
    "generate_table_images",
    "generate_parsed_pages",
    "heading_hierarchy_options",
    "do_ocr",
    "ocr_options",
    "do_table_structure",
    "table_structure_options",
    "do_code_enrichment",
    "do_formula_enrichment",
    "code_formula_options",
    "do_picture_classification",
    "picture_classification_options",
    "do_picture_description",
    "picture_description_options",
    "do_chart_extraction",
    "chart_extraction_options",
)
_SHARED = (StandardPdfPipeline, VlmPipeline, SimplePipeline)


class Obtain(Protocol):
    """Returns the model for a key, loading it with the function if need be."""

    def __call__(self, key: Key, load: Callable[[], Loaded], /) -> Loaded: ...


class Blueprint:
    """A pipeline of class ``pipeline_cls`` with ``options``, which are not changed afterwards."""

    def __init__(self, pipeline_cls: type[BasePipeline], options: PipelineOptions) -> None:
        self._class = pipeline_cls
        self._options = options
        self._stages: dict[str, Key] = {}
        if pipeline_cls in _SHARED and isinstance(options, ConvertPipelineOptions):
            self._add_enrichments(options)
        if pipeline_cls is StandardPdfPipeline:
            self._add_page_stages(options)

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """The keys of the models it needs, in loading order; none if it needs none."""
        stages = tuple(self._stages.values())
        return stages if self._class is SimplePipeline else (self._base_key, *stages)

    def build(self, obtain: Obtain) -> BasePipeline:
        """The pipeline; loads what ``obtain`` does not have."""
        base = self._base_pipeline(obtain)
        if self._class not in _SHARED:
            return base
        pipeline: Any = copy.copy(base)
        pipeline.pipeline_options = self._options
        pipeline.enrichment_pipe = self._enrichments(pipeline, obtain)
        if self._class is StandardPdfPipeline:
            self._fit_standard(pipeline, obtain)
        elif self._class is VlmPipeline:
            pipeline.keep_images = pipeline.pipeline_options.generate_page_images
        built: BasePipeline = pipeline
        return built

    @cached_property
    def _base_options(self) -> PipelineOptions:
        # A pipeline unknown to this module counts as one model that depends on all its options.
        return _without(self._options, PER_REQUEST if self._class in _SHARED else ())

    @property
    def _base_key(self) -> Key:
        return ("pipeline", self._class, self._base_options)

    def _base_pipeline(self, obtain: Obtain) -> BasePipeline:
        def load() -> BasePipeline:
            return self._class(pipeline_options=self._base_options)

        # Without enrichment, docling's simple pipeline holds no model and takes no time to make.
        return load() if self._class is SimplePipeline else obtain(self._base_key, load)

    def _add_stage(self, name: str, stage_options: BaseModel, *run_time: str) -> None:
        """``run_time`` are options that the stage reads while it runs, not when it loads."""
        options = self._options
        self._stages[name] = (
            name,
            _without(stage_options, run_time),
            options.accelerator_options,
            options.artifacts_path,
            options.allow_external_plugins,
            options.enable_remote_services,
        )

    def _add_page_stages(self, options: Any) -> None:
        if options.do_ocr:
            ocr = options.ocr_options
            known = _is_doclings(
                get_ocr_factory(allow_external_plugins=options.allow_external_plugins), ocr
            )
            self._add_stage("ocr", ocr, *(["mode"] if known else []))
        if options.do_table_structure:
            self._add_stage("table", options.table_structure_options)
        if options.do_code_enrichment or options.do_formula_enrichment:
            code_formula = options.code_formula_options
            self._add_stage("code_formula", code_formula, "extract_code", "extract_formulas")

    def _add_enrichments(self, options: ConvertPipelineOptions) -> None:
        if options.do_picture_classification or options.do_chart_extraction:
            self._add_stage("classification", options.picture_classification_options)
        if options.do_picture_description:
            description = options.picture_description_options
            factory = get_picture_description_factory(
                allow_external_plugins=options.allow_external_plugins
            )
            known = _is_doclings(factory, description)
            self._add_stage(
                "description", description, *(["picture_area_threshold"] if known else [])
            )
        if options.do_chart_extraction:
            self._add_stage("chart", options.chart_extraction_options)

    def _fit_standard(self, pipeline: Any, obtain: Obtain) -> None:
        options = pipeline.pipeline_options
        pipeline.keep_images = (
            options.generate_page_images
            or options.generate_picture_images
            or vars(options)["generate_table_images"]  # deprecated: reading the attribute warns
        )
        pipeline.keep_backend = any(
            (
                options.do_formula_enrichment,
                options.do_code_enrichment,
                options.do_picture_classification,
                options.do_picture_description,
                options.do_chart_extraction,
            )
        )
        preprocessing = pipeline.preprocessing_model
        pipeline.preprocessing_model = shallow_clone(
            preprocessing,
            options=preprocessing.options.model_copy(
                update={
                    "images_scale": options.images_scale,
                    "skip_cell_extraction": resolve_skip_cell_extraction(options),
                }
            ),
        )
        # A layout model of ours knows how its own regions become blocks.
        pipeline.layout_postprocessing_model = getattr(
            pipeline.layout_model, "layout_postprocessing", pipeline.layout_postprocessing_model
        )
        pipeline.heading_hierarchy_model = HeadingHierarchyModel(
            options=options.heading_hierarchy_options
        )
        pipeline.ocr_model = self._ocr(pipeline, obtain)
        pipeline.table_model = self._table(pipeline, obtain)

    def _ocr(self, pipeline: Any, obtain: Obtain) -> Any:
        def load() -> Any:
            return pipeline._make_ocr_model(pipeline.artifacts_path)

        if "ocr" not in self._stages:
            return load()  # switched off: loads nothing
        model = obtain(self._stages["ocr"], load)
        options = pipeline.pipeline_options.ocr_options
        engine = getattr(model, "_engine", None)
        if not isinstance(engine, BaseOcrModel):
            return shallow_clone(model, options=options)
        # The kind "auto" delegates to the engine it chose, which has options of its own.
        of_engine = engine.options.model_copy(update={"mode": options.mode})
        engine = shallow_clone(engine, options=of_engine)
        return shallow_clone(model, options=options, _engine=engine)

    def _table(self, pipeline: Any, obtain: Obtain) -> Any:
        options = pipeline.pipeline_options

        def load() -> Any:
            return get_table_structure_factory(
                allow_external_plugins=options.allow_external_plugins
            ).create_instance(
                options=options.table_structure_options,
                enabled=options.do_table_structure,
                artifacts_path=pipeline.artifacts_path,
                accelerator_options=options.accelerator_options,
                enable_remote_services=options.enable_remote_services,
            )

        return obtain(self._stages["table"], load) if "table" in self._stages else load()

    def _enrichments(self, pipeline: Any, obtain: Obtain) -> list[Any]:
        """docling's own list, whose models are switched off, with the enabled ones put in place."""
        enrichments = [
            self._enrichment(model, pipeline, obtain) for model in pipeline.enrichment_pipe
        ]
        if "chart" in self._stages:
            enrichments.append(obtain(self._stages["chart"], lambda: _chart_model(pipeline)))
        return enrichments

    def _enrichment(self, model: Any, pipeline: Any, obtain: Obtain) -> Any:
        options = pipeline.pipeline_options
        stage_options: Any
        load: Callable[[], Any]
        if isinstance(model, CodeFormulaVlmModel):
            name = "code_formula"
            stage_options = options.code_formula_options.model_copy(
                update={
                    "extract_code": options.do_code_enrichment,
                    "extract_formulas": options.do_formula_enrichment,
                }
            )
            load = partial(CodeFormulaVlmModel, options=stage_options, **_surroundings(pipeline))
        elif isinstance(model, DocumentPictureClassifier):
            name = "classification"
            stage_options = options.picture_classification_options
            load = partial(
                DocumentPictureClassifier, options=stage_options, **_surroundings(pipeline)
            )
        elif isinstance(model, PictureDescriptionBaseModel):
            name = "description"
            stage_options = options.picture_description_options
            load = partial(pipeline._get_picture_description_model, pipeline.artifacts_path)
        else:
            return model
        if name not in self._stages:
            return model
        return shallow_clone(obtain(self._stages[name], load), options=stage_options)


def shallow_clone(model: Loaded, **attributes: Any) -> Loaded:
    """A copy of ``model`` that differs in ``attributes`` and shares the rest, weights included."""
    cls: Any = type(model)
    cls = _clone_class(cls)
    copied = object.__new__(cls)
    # The original must outlive its clones: its destructor closes what they share.
    vars(copied).update(vars(model), **attributes, _clone_of=model)
    shown: Loaded = copied
    return shown


@lru_cache(maxsize=64)
def _clone_class(cls: Any) -> Any:
    if not hasattr(cls, "__del__"):
        return cls
    return type(cls.__name__, (cls,), {"__del__": _leave_open, "__module__": cls.__module__})


def _leave_open(_: object) -> None:
    """Replaces a model's ``__del__``, which closes the engine that its clones share."""


def _surroundings(pipeline: Any) -> dict[str, Any]:
    options = pipeline.pipeline_options
    return {
        "enabled": True,
        "artifacts_path": pipeline.artifacts_path,
        "accelerator_options": options.accelerator_options,
        "enable_remote_services": options.enable_remote_services,
    }


def _chart_model(pipeline: Any) -> Any:
    # docling imports it on use, too: it needs transformers.
    from docling.models.stages.chart_extraction.granite_vision import (  # noqa: PLC0415
        ChartExtractionVlmEngineModel,
    )

    options = pipeline.pipeline_options.chart_extraction_options
    return ChartExtractionVlmEngineModel(options=options, **_surroundings(pipeline))


def _is_doclings(factory: Any, options: BaseModel) -> bool:
    """Whether docling's own model, whose code we know, handles ``options``."""
    model = factory.classes.get(type(options))
    return model is not None and model.__module__.startswith("docling.")


def _without(options: Options, names: Sequence[str]) -> Options:
    """A deep copy in which the fields ``names`` that exist have their defaults."""
    fields = type(options).model_fields
    defaults = {
        name: fields[name].get_default(call_default_factory=True)
        for name in names
        if name in fields
    }
    for switch in defaults:
        if switch.startswith("do_"):
            defaults[switch] = False
    return options.model_copy(update=defaults, deep=True)
