"""Import everything a first conversion would import on its way, and make what all of them share.

A worker does this before it says ready, and the fork template before it forks: a job then pays for
models and pages only. Nothing else happens here: building a pipeline, a torch operation, a look
for CUDA or an ONNX session would poison every process forked from a template afterwards.
"""

from __future__ import annotations

import importlib
import logging
import os

from docling.models.factories import (
    get_layout_factory,
    get_ocr_factory,
    get_picture_description_factory,
    get_table_structure_factory,
)
from docling_jobkit.connectors.connector_factory import (
    get_source_connector_factory,
    get_target_connector_factory,
)

import docling_serve.conversion.conversion  # noqa: F401 - imported for its imports
from docling_serve.conversion.converters import default_format_options

_log = logging.getLogger(__name__)

#: Modules that docling or rapidocr import inside functions, on the way to a first page.
_LAZY = (
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


def import_all(allow_external_plugins: bool) -> list[str]:
    """Import it all; returns the modules that are not installed (an OCR engine may be left out)."""
    for factory in (
        get_ocr_factory,
        get_table_structure_factory,
        get_layout_factory,
        get_picture_description_factory,
    ):
        factory(allow_external_plugins=allow_external_plugins)
    get_source_connector_factory(allow_external_plugins)
    get_target_connector_factory(allow_external_plugins)
    default_format_options()
    # Formats that get none of a request's options ask with docling's defaults: no plugins.
    get_picture_description_factory(allow_external_plugins=False)
    missing: list[str] = []
    for name in _LAZY:
        try:
            importlib.import_module(name)
        except ImportError as exc:
            _log.debug("%s is not there: %s", name, exc)
            missing.append(name)
    return missing


def set_torch_threads(threads: int) -> None:
    """Bound torch's own pool. A forked worker needs this: the template's OpenMP runtime read its
    environment long before the worker's limits were known."""
    import torch  # noqa: PLC0415 - importing this module must stay free of torch calls

    torch.set_num_threads(threads)


def can_use_gpu() -> bool:
    """Whether the installed libraries could use a GPU, if there is one. Does not look for one:
    that would touch the driver."""
    import torch  # noqa: PLC0415 - as above

    if os.environ.get("DOCLING_DEVICE", "").lower() == "cpu":
        return False
    if torch.version.cuda is not None:
        return True
    try:
        import onnxruntime  # noqa: PLC0415 - an OCR engine that may be left out
    except ImportError:
        return False
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
