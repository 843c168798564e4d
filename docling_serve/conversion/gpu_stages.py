"""Which stages of a pipeline can use CUDA, judged by their options, without loading anything.

Errs on the side of yes: a pipeline or a stage that is not known here counts as able to use CUDA,
where the installed libraries can at all.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from docling.datamodel.accelerator_options import AcceleratorDevice
from docling.datamodel.pipeline_options import PipelineOptions
from docling.datamodel.pipeline_options_vlm_model import ApiVlmOptions
from docling.models.factories import get_layout_factory, get_table_structure_factory
from docling.pipeline.base_pipeline import BasePipeline
from docling.pipeline.simple_pipeline import SimplePipeline
from docling.pipeline.standard_pdf_pipeline import StandardPdfPipeline

from docling_serve.internals.docling_devices import onnx_can_use_cuda, torch_build

_ENRICHMENTS_ON_TORCH = (
    "do_picture_classification",
    "do_chart_extraction",
    "do_code_enrichment",
    "do_formula_enrichment",
)
_OCR_ON_THE_CPU = ("tesseract", "tesserocr", "ocrmac", "kserve_v2_ocr")


def torch_can_use_cuda() -> bool:
    """Whether the installed torch was built for CUDA, or for ROCm, which reports itself as CUDA."""
    return bool(torch_build().get("cuda") or torch_build().get("hip"))


def may_use_gpu(pipeline_cls: type[BasePipeline], options: PipelineOptions) -> bool:
    """Whether a stage of this pipeline can use CUDA, if there is a GPU."""
    if options.accelerator_options.device in (AcceleratorDevice.CPU, AcceleratorDevice.CPU.value):
        return False
    # The kind of job does not show its documents, which may be audio.
    if torch_can_use_cuda() and (_enriches_on_torch(options) or find_spec("whisper")):
        return True
    if pipeline_cls is StandardPdfPipeline:
        return _pages_use_gpu(options)
    remote = isinstance(getattr(options, "vlm_options", None), ApiVlmOptions)
    if pipeline_cls is SimplePipeline or remote:
        return False
    return torch_can_use_cuda() or onnx_can_use_cuda()


def _enriches_on_torch(options: Any) -> bool:
    if any(getattr(options, switch, False) for switch in _ENRICHMENTS_ON_TORCH):
        return True
    description = getattr(options, "picture_description_options", None)
    remote = getattr(description, "kind", "") == "api"
    return bool(getattr(options, "do_picture_description", False)) and not remote


def _pages_use_gpu(options: Any) -> bool:
    plugins = options.allow_external_plugins
    layout = get_layout_factory(allow_external_plugins=plugins)
    table = get_table_structure_factory(allow_external_plugins=plugins)
    stages: list[tuple[Any, Any]] = [(layout, options.layout_options)]
    if options.do_table_structure:
        stages.append((table, options.table_structure_options))
    on_torch = any(_has_weights(factory, stage) for factory, stage in stages)
    if on_torch and torch_can_use_cuda():
        return True
    return bool(options.do_ocr) and _ocr_uses_gpu(options.ocr_options)


def _has_weights(factory: Any, stage_options: Any) -> bool:
    return not getattr(factory.classes.get(type(stage_options)), "weightless", False)


def _ocr_uses_gpu(options: Any) -> bool:
    kind = options.kind
    if kind in _OCR_ON_THE_CPU:
        return False
    if kind == "rapidocr" and options.backend == "onnxruntime":
        return onnx_can_use_cuda()
    if kind == "rapidocr" and options.backend == "torch":
        return torch_can_use_cuda()
    if kind == "easyocr":
        return options.use_gpu is not False and torch_can_use_cuda()
    if kind == "auto" and find_spec("rapidocr") and find_spec("onnxruntime"):
        return onnx_can_use_cuda()  # docling's first choice
    return torch_can_use_cuda() or onnx_can_use_cuda()
