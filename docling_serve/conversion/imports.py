"""Import everything that a first conversion would import, and create what all of them share.

A worker does this before it reports ready, and the fork template before it forks: a job then pays
only for models and pages, and for torch if one of its models runs on torch. Nothing else happens
here: building a pipeline, a torch operation, a CUDA query or an ONNX session would break every
process forked from a template afterwards.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
from collections.abc import Callable, Iterable

from docling.models.factories import (
    get_layout_factory,
    get_ocr_factory,
    get_picture_description_factory,
    get_table_structure_factory,
)

import docling_serve.conversion.conversion  # noqa: F401 - imported for its imports
from docling_serve.conversion.converters import default_format_options
from docling_serve.conversion.gpu_stages import torch_can_use_cuda
from docling_serve.internals.docling_devices import answer_for_rapidocr, onnx_can_use_cuda
from docling_serve.internals.onnx_sessions import watch_rapidocr, watch_sessions
from docling_serve.internals.rapidocr_images import normalise_by_table
from docling_serve.internals.rapidocr_sessions import plan_no_memory
from docling_serve.process.deferred_imports import TORCH, is_loaded, load

_log = logging.getLogger(__name__)

#: Modules that docling or rapidocr import inside functions, before the first page.
_ON_DEMAND = (
    "docling.pipeline.standard_pdf_pipeline",
    "docling.models.stages.ocr.rapid_ocr_model",
    "rapidocr.main",
    "rapidocr.cal_rec_boxes",
    "rapidocr.ch_ppocr_cls.main",
    "rapidocr.ch_ppocr_det.main",
    "rapidocr.ch_ppocr_rec.main",
    "rapidocr.inference_engine.onnxruntime.main",
    "PIL.PngImagePlugin",
    "PIL.JpegImagePlugin",
    "PIL.TiffImagePlugin",
    "PIL.WebPImagePlugin",
)

#: What docling's own models import in addition, when they are created.
_ON_TORCH = (*TORCH, "docling_ibm_models.tableformer.data_management.tf_predictor")


def import_all(allow_external_plugins: bool) -> list[str]:
    """Import it all; returns the modules that are not installed (an OCR engine may be absent)."""
    for factory in (
        get_ocr_factory,
        get_table_structure_factory,
        get_layout_factory,
        get_picture_description_factory,
    ):
        factory(allow_external_plugins=allow_external_plugins)
    default_format_options()
    # Formats that get no options of a request use docling's defaults: no plugins.
    get_picture_description_factory(allow_external_plugins=False)
    watch_sessions()  # before anything imports the session class from ONNX Runtime
    missing = _missing(_ON_DEMAND)
    watch_rapidocr()
    answer_for_rapidocr()
    with contextlib.suppress(ImportError):
        plan_no_memory()
        normalise_by_table()
    return missing


def import_torch() -> list[str]:
    """Import torch and its dependents, even if deferred; returns what is not installed."""
    return _missing(_ON_TORCH, load)


def limit_torch_threads(threads: int) -> None:
    """Limit torch's own thread pool where torch was imported before the limit was known: in a
    process forked from a template. Elsewhere torch reads it from the environment."""
    if is_loaded("torch"):
        import torch  # noqa: PLC0415 - only where it is already imported

        torch.set_num_threads(threads)


def can_use_gpu() -> bool:
    """Whether the installed libraries could use a GPU, if there is one. Does not look for one,
    since that would touch the driver."""
    if os.environ.get("DOCLING_DEVICE", "").lower() == "cpu":
        return False
    return torch_can_use_cuda() or onnx_can_use_cuda()


def _missing(
    modules: Iterable[str], import_: Callable[[str], object] = importlib.import_module
) -> list[str]:
    """Import ``modules``; returns those that are not installed."""
    missing: list[str] = []
    for name in modules:
        try:
            import_(name)
        except ImportError as exc:
            _log.debug("%s is not there: %s", name, exc)
            missing.append(name)
    return missing
