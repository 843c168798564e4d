"""docling's converters, one for each request, and what they share: default options and models.

Creating a :class:`DocumentConverter` the usual way takes some 0.2 s, because docling fills in the
options of every format by creating those of all formats; and each converter loads its own models.
Here the formats' options are created once per process, so that a converter costs almost nothing,
and models come from :class:`~docling_serve.conversion.model_sets.ModelSets`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from docling.datamodel.accelerator_options import AcceleratorOptions
from docling.datamodel.backend_options import EpubBackendOptions
from docling.datamodel.base_models import InputFormat
from docling.datamodel.pipeline_options import PipelineOptions
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.document_converter import (
    DocumentConverter,
    FormatOption,
    ImageFormatOption,
    PdfFormatOption,
)
from docling.pipeline.base_pipeline import BasePipeline
from docling.pipeline.simple_pipeline import SimplePipeline

from docling_serve.conversion.gpu_stages import may_use_gpu
from docling_serve.conversion.guarded_backends import guarded
from docling_serve.conversion.input_limits import InputLimits
from docling_serve.conversion.model_sets import ConverterStats, ModelSet, ModelSets
from docling_serve.internals.docling_devices import answer_for_rapidocr
from docling_serve.internals.docling_pipelines import Blueprint, Key, Obtain
from docling_serve.internals.jobkit_manager import ConverterManager
from docling_serve.internals.onnx_sessions import watch_rapidocr, watch_sessions
from docling_serve.process.installation import is_lite

_log = logging.getLogger(__name__)

# The formats that get the request's picture options from docling-jobkit.
_ENRICHED = (
    InputFormat.DOCX,
    InputFormat.PPTX,
    InputFormat.XLSX,
    InputFormat.HTML,
    InputFormat.ODT,
    InputFormat.ODS,
    InputFormat.ODP,
)


@cache
def default_format_options() -> Mapping[InputFormat, FormatOption]:
    """docling's options of every format, created once per process and inherited by forked ones.

    Starts no thread, looks for no device and builds no pipeline.
    """
    return MappingProxyType(DocumentConverter().format_to_options)


class Converters:
    """A converter for each request; their models are shared and kept. Thread-safe."""

    def __init__(self, manager: ConverterManager, limits: InputLimits | None = None) -> None:
        self._manager = manager
        self._limits = limits or InputLimits()
        self._sets = ModelSets(manager.config.options_cache_size, _has_weights)
        if is_lite():  # else torch knows, and a worker asks it for nothing
            answer_for_rapidocr()
        self._defaults = _for_this_process(default_format_options())

    @property
    def stats(self) -> ConverterStats:
        """Counted once for each request that needs models."""
        return self._sets.stats

    @property
    def holds_models(self) -> bool:
        """Whether models with weights are loaded."""
        return self._sets.holds_models

    def clear(self) -> None:
        """Drop all models, those of running conversions when they end."""
        self._sets.clear()

    def converter(
        self,
        options: ConvertDocumentsOptions,
        adapt: Callable[[BasePipeline], BasePipeline] = lambda pipeline: pipeline,
    ) -> DocumentConverter:
        """A converter for ``options``; loads nothing before a document needs it. ``adapt`` may
        replace the PDF pipeline with another one.

        Raises:
            ValueError: an option names something this server does not have or allow.
            NotImplementedError: the pipeline is not supported.
        """
        pdf = self._manager.get_pdf_pipeline_opts(options)
        options_by_format = _format_options(self._defaults, pdf)
        return _RequestConverter(options_by_format, self._sets, adapt, self._limits)

    def may_use_gpu(self, options: ConvertDocumentsOptions) -> bool:
        """Whether a model for PDFs, images or enrichment with ``options`` can use CUDA, if there
        is a GPU. Raises as :meth:`converter` does."""
        pdf = self._manager.get_pdf_pipeline_opts(options)
        assert pdf.pipeline_options is not None
        return may_use_gpu(pdf.pipeline_cls, pdf.pipeline_options)

    def warm_up(self) -> None:
        """Load what a PDF needs when its request sets no options."""
        config, known = self._manager.config, self._manager.ocr_preset_registry
        # The server fills in its default preset, unless "auto", docling's own, is redefined.
        first = () if "auto" in config.custom_ocr_presets else (config.default_ocr_preset,)
        named = next((preset for preset in (*first, "auto", *known) if preset in known), "auto")
        options = ConvertDocumentsOptions(ocr_preset=named)
        self.converter(options).initialize_pipeline(InputFormat.PDF)


class _RequestConverter(DocumentConverter):
    """The converter of one request: its own pipelines, with shared models."""

    def __init__(
        self,
        options: dict[InputFormat, FormatOption],
        sets: ModelSets,
        adapt: Callable[[BasePipeline], BasePipeline],
        limits: InputLimits,
    ) -> None:
        super().__init__(format_options=options)
        # Not earlier: docling replaces any other image reader with its own.
        self.format_to_options = guarded(self.format_to_options, limits)
        self._sets = sets
        self._adapt = adapt
        self._model_set: ModelSet | None = None
        self._pipelines: dict[tuple[type[BasePipeline], int], BasePipeline] = {}
        self._building = threading.Lock()

    def _get_pipeline(self, doc_format: InputFormat) -> BasePipeline | None:
        option = self.format_to_options.get(doc_format)
        if option is None or option.pipeline_options is None:
            return None
        options: PipelineOptions = option.pipeline_options
        # Identity is enough: the options live as long as this converter.
        place = (option.pipeline_cls, id(options))
        with self._building:
            if place not in self._pipelines:
                self._pipelines[place] = self._build(Blueprint(option.pipeline_cls, options))
            built = self._pipelines[place]
        return self._adapt(built) if doc_format is InputFormat.PDF else built

    def _build(self, blueprint: Blueprint) -> BasePipeline:
        if not blueprint.keys:
            return blueprint.build(_no_models)
        if self._model_set is None:
            self._model_set = self._sets.open(self._keys())
        pipeline = blueprint.build(self._obtain(self._model_set))
        self._sets.keep(self._model_set)
        return pipeline

    def _keys(self) -> list[Key]:
        """What documents of this request may need, whatever their formats."""
        pipelines = {
            (option.pipeline_cls, id(options)): (option.pipeline_cls, options)
            for option in self.format_to_options.values()
            if (options := option.pipeline_options) is not None
        }
        keys: list[Key] = []
        for pipeline in pipelines.values():
            found = Blueprint(*pipeline).keys
            keys.extend(key for key in found if key not in keys)
        return keys

    def _obtain(self, model_set: ModelSet) -> Obtain:
        def obtain(key: Key, load: Any, /) -> Any:
            def load_and_tell() -> Any:
                watch_sessions()  # in a worker this is already done
                started = time.monotonic()
                model = load()
                watch_rapidocr()
                _log.debug("%s loaded in %.2f s", key[0], time.monotonic() - started)
                return model

            return self._sets.model(model_set, key, load_and_tell)

        return obtain


def _has_weights(model: Any) -> bool:
    """Whether a model has weights: a stage, or a pipeline, whose layout stage decides."""
    return not getattr(getattr(model, "layout_model", model), "weightless", False)


def _no_models(key: Key, load: Any, /) -> Any:
    raise AssertionError(f"a pipeline without models asked for {key[0]} through {load}")


def _for_this_process(
    defaults: Mapping[InputFormat, FormatOption],
) -> dict[InputFormat, FormatOption]:
    """``defaults`` with the threads and the device that this process's environment specifies.

    They were read in the process that created the defaults, which may be this one's template.
    """
    accelerator = AcceleratorOptions()
    options = dict(defaults)
    for format_, option in defaults.items():
        if option.pipeline_cls is not SimplePipeline and option.pipeline_options is not None:
            pipeline = option.pipeline_options.model_copy(
                update={"accelerator_options": accelerator}
            )
            options[format_] = option.model_copy(update={"pipeline_options": pipeline})
    return options


def _format_options(
    defaults: Mapping[InputFormat, FormatOption], pdf: PdfFormatOption
) -> dict[InputFormat, FormatOption]:
    """The options of every format in a request whose PDFs have ``pdf``.

    Source: ``docling_jobkit.convert.manager`` 3.9.1 (a test compares them). Unlike there, METS
    archives of scanned books also get the request's options.
    """
    pipeline: Any = pdf.pipeline_options
    options = dict(defaults)
    for format_ in _ENRICHED:
        options[format_] = defaults[format_].model_copy(update={"pipeline_options": pipeline})
    # The EPUB backend reads the images in the archive only when allowed to look into it.
    images = pipeline.generate_picture_images
    options[InputFormat.EPUB] = defaults[InputFormat.EPUB].model_copy(
        update={
            "pipeline_options": pipeline,
            "backend_options": EpubBackendOptions(fetch_images=images, enable_local_fetch=images),
        }
    )
    options[InputFormat.PDF] = pdf
    options[InputFormat.IMAGE] = ImageFormatOption(
        pipeline_cls=pdf.pipeline_cls,
        pipeline_options=pipeline,
        backend_options=pdf.backend_options,
    )
    mets = defaults[InputFormat.METS_GBS]
    if mets.pipeline_cls is pdf.pipeline_cls:
        options[InputFormat.METS_GBS] = mets.model_copy(update={"pipeline_options": pipeline})
    return options
