"""Which device RapidOCR runs on, determined without torch.

docling asks torch, although RapidOCR runs on ONNX Runtime and needs nothing else from torch. All
other stages still ask docling.

Read from docling-slim 2.143 (``docling.utils.accelerator_utils.decide_device``).
Guarded by tests/unit/internals/test_docling_devices.py, which compares the answers.
"""

from __future__ import annotations

import logging
import os
import runpy
from collections.abc import Mapping
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from docling.datamodel.accelerator_options import AcceleratorDevice
from docling.exceptions import AcceleratorDeviceNotAvailableError
from docling.utils.accelerator_utils import decide_device as ask_torch

from docling_serve.process.deferred_imports import is_loaded
from docling_serve.process.installation import is_lite

_log = logging.getLogger(__name__)

#: Of NVIDIA's driver, and of the one for Windows Subsystem for Linux.
_GPUS = ("nvidia[0-9]*", "dxg")
_HIDDEN = ("", "-1", "none", "NoDevFiles")


def answer_for_rapidocr() -> None:
    """Make docling's RapidOCR stage call :func:`decide_device`."""
    from docling.models.stages.ocr import rapid_ocr_model  # noqa: PLC0415 - seconds

    module: Any = rapid_ocr_model
    module.decide_device = decide_device


def decide_device(accelerator_device: str) -> str:
    """``cpu`` or ``cuda:0``; asks torch if it is already imported, or if only torch can tell.

    Raises:
        AcceleratorDeviceNotAvailableError: the requested device does not exist.
    """
    device = None if is_loaded("torch") else _known(accelerator_device)
    if device is None:
        return ask_torch(accelerator_device)
    _log.debug("Accelerator device: '%s'", device)
    return device


def _known(asked: str) -> str | None:
    """The device, or None if only torch can tell."""
    if asked == AcceleratorDevice.CPU.value:
        return "cpu"
    if is_lite():
        return _without_torch(asked)
    build = torch_build()
    if build.get("hip") or build.get("xpu"):
        return None
    has_cuda = bool(build.get("cuda")) and _shows_gpu()
    if asked == AcceleratorDevice.AUTO.value:
        return "cuda:0" if has_cuda else "cpu"
    return "cuda:0" if asked == AcceleratorDevice.CUDA.value and has_cuda else None


def _without_torch(asked: str) -> str:
    """The same answers when only ONNX Runtime can use a GPU."""
    if onnx_can_use_cuda() and _shows_gpu():
        if asked == AcceleratorDevice.AUTO.value:
            return "cuda:0"
        if asked.startswith(AcceleratorDevice.CUDA.value):
            return asked if ":" in asked else "cuda:0"
    if asked == AcceleratorDevice.AUTO.value:
        return "cpu"
    raise AcceleratorDeviceNotAvailableError(f"ONNX Runtime has no device '{asked}' here.")


@cache
def torch_build() -> Mapping[str, str | None]:
    """The versions of ``cuda``, ``hip`` and ``xpu`` that the installed torch was built for, None
    for one it was not built for; read from a file of torch without importing it. Empty without
    torch."""
    facts = _run_file("torch", "version.py")
    return {name: facts.get(name) for name in ("cuda", "hip", "xpu")} if facts else {}


@cache
def onnx_cuda() -> str | None:
    """The version of CUDA that the installed ONNX Runtime was built for, read from one of its
    files; None for a build without CUDA, or without ONNX Runtime."""
    version = _run_file("onnxruntime", "capi/build_and_package_info.py").get("cuda_version")
    return str(version) if version else None


def _run_file(package: str, file: str) -> Mapping[str, Any]:
    """The names that a file of a package defines, without importing the package."""
    spec = PathFinder.find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / file
        if path.is_file():
            return runpy.run_path(str(path))
    return {}


def onnx_can_use_cuda() -> bool:
    """Whether the installed ONNX Runtime has the provider for CUDA."""
    try:
        import onnxruntime  # noqa: PLC0415 - an OCR engine that may be left out
    except ImportError:
        return False
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _shows_gpu() -> bool:
    """Whether an NVIDIA GPU is visible to this process. Does not call the driver, which would keep
    the GPU open until the process exits."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in _HIDDEN
    return not hidden and any(next(Path("/dev").glob(name), None) for name in _GPUS)
