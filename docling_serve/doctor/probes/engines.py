"""torch, and what a request without options would run on. Imports both as a worker does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from docling_serve.doctor.facts import EngineFacts, StageFacts, TorchFacts
from docling_serve.process.deferred_imports import defer_absent
from docling_serve.settings import DoclingServeSettings
from docling_serve.settings.converter_config import converter_config
from docling_serve.subprocess_worker.child.containment import scrub_environment

#: OCR engines of docling that run on torch.
_OCR_ON_TORCH = ("easyocr", "nemotron-ocr")
#: The library of our plugin's layout kinds; its table kinds have no model.
_OUR_LAYOUTS = {"full_page": "", "embedded": "onnxruntime"}
_OUR_TABLES = ("none", "embedded")
#: docling's automatic choice of an OCR engine tries this one first on Linux, if it is installed.
_AUTO = "auto"


def answer(tell: Callable[[Any], None]) -> None:
    """Report :class:`EngineFacts`."""
    settings = DoclingServeSettings()
    scrub_environment(os.environ, tuple(settings.subprocess_pass_env or ()))
    stages: list[StageFacts] = []
    failure = ""
    torch = _torch()
    try:
        stages = list(_stages(settings))
    except Exception as exc:  # noqa: BLE001 - any error here is what a task would fail with
        failure = f"{type(exc).__name__}: {exc}"
    asked = os.environ.get("DOCLING_DEVICE", "auto").lower()
    tell(asdict(EngineFacts(asked, torch, stages, failure)))


def _torch() -> TorchFacts:
    try:
        import torch  # noqa: PLC0415 - heavy
    except (ImportError, OSError) as exc:
        return TorchFacts(None, None, False, f"{type(exc).__name__}: {exc}")
    error = ""
    available = torch.cuda.is_available()
    if torch.version.cuda and not available:
        try:
            torch.cuda.init()  # type: ignore[no-untyped-call]
        except (RuntimeError, AssertionError) as exc:
            error = str(exc).splitlines()[0]
    return TorchFacts(torch.__version__, torch.version.cuda, available, error)


def _stages(settings: DoclingServeSettings) -> Iterator[StageFacts]:
    defer_absent()
    from docling.datamodel.service.options import (  # noqa: PLC0415 - heavy
        ConvertDocumentsOptions,
    )
    from docling_jobkit.convert.manager import DoclingConverterManagerConfig  # noqa: PLC0415

    from docling_serve.internals.jobkit_manager import ConverterManager  # noqa: PLC0415
    from docling_serve.policy import PolicyViolation, ServicePolicy  # noqa: PLC0415

    policy = ServicePolicy.from_settings(settings)
    manager = ConverterManager(
        DoclingConverterManagerConfig.model_validate(converter_config(settings))
    )
    options = policy.check_options(ConvertDocumentsOptions())
    pdf: Any = manager.get_pdf_pipeline_opts(options).pipeline_options
    device = str(pdf.accelerator_options.device)
    if pdf.do_ocr:
        kind, library = _ocr(pdf.ocr_options)
        yield StageFacts("OCR", kind, library, _device(device, library))
    layout = pdf.layout_options
    library = _OUR_LAYOUTS.get(layout.kind, _engine_library(layout))
    yield StageFacts("layout", layout.kind, library, _device(device, library))
    if pdf.do_table_structure:
        tables = pdf.table_structure_options
        library = "" if tables.kind in _OUR_TABLES else "torch"
        yield StageFacts("tables", tables.kind, library, _device(device, library))
    try:
        vlm = policy.check_options(ConvertDocumentsOptions(pipeline="vlm"))
    except PolicyViolation:  # the server would refuse it
        return
    on_request: Any = manager.get_pdf_pipeline_opts(vlm).pipeline_options
    model = on_request.vlm_options
    library = _vlm_library(model)
    name = str(getattr(model, "repo_id", "") or getattr(model, "kind", ""))
    yield StageFacts("VLM pipeline (on request)", name, library, _device(device, library))


def _ocr(options: Any) -> tuple[str, str]:
    """The kind of an OCR stage, and the library that it runs on."""
    kind = str(options.kind)
    if kind == _AUTO:
        return kind, "onnxruntime" if _has("onnxruntime") and _has("rapidocr") else "torch"
    if kind == "rapidocr":
        return kind, str(options.backend)
    return kind, "torch" if kind in _OCR_ON_TORCH else kind


def _has(module: str) -> bool:
    from importlib.util import find_spec  # noqa: PLC0415 - next to its use

    return find_spec(module) is not None


def _engine_library(options: Any) -> str:
    """The library of options that may name an engine; docling's usual one is torch."""
    engine = getattr(getattr(options, "engine_options", None), "engine_type", None)
    return "onnxruntime" if "onnx" in str(getattr(engine, "value", engine)) else "torch"


def _vlm_library(options: Any) -> str:
    framework = getattr(options, "inference_framework", None)
    if framework is None:  # a service over the network
        return str(getattr(options, "kind", "a service"))
    return "torch" if framework.value in ("transformers", "vllm") else str(framework.value)


def _device(asked: str, library: str) -> str:
    """The device that docling gives a stage, or the reason why it gives none."""
    if library not in ("torch", "onnxruntime"):
        return "cpu" if library else ""
    from docling.exceptions import AcceleratorDeviceNotAvailableError  # noqa: PLC0415

    from docling_serve.internals.docling_devices import decide_device  # noqa: PLC0415

    try:
        return decide_device(asked)
    except AcceleratorDeviceNotAvailableError as exc:
        return f"none: {exc}"
