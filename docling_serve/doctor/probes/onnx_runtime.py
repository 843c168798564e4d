"""ONNX Runtime as a worker has it: without torch, whose import would load CUDA's libraries."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from docling_serve.doctor.elf import missing_libraries
from docling_serve.doctor.facts import OnnxFacts
from docling_serve.internals.onnx_sessions import watch_sessions
from docling_serve.settings import DoclingServeSettings
from docling_serve.subprocess_worker.child.containment import scrub_environment

_CUDA = "CUDAExecutionProvider"
_PROVIDER_LIBRARY = "capi/libonnxruntime_providers_cuda.so"
_ERRORS_AND_WORSE = 3


def answer(tell: Callable[[Any], None]) -> None:
    """Report :class:`OnnxFacts`."""
    settings = DoclingServeSettings()
    scrub_environment(os.environ, tuple(settings.subprocess_pass_env or ()))
    tell(asdict(_facts(os.environ.get("DOCLING_DEVICE", "auto").lower() != "cpu")))


def _facts(asks_for_cuda: bool) -> OnnxFacts:
    try:
        import onnxruntime  # noqa: PLC0415 - an engine that may be left out
    except ModuleNotFoundError:
        return OnnxFacts(None, None, [], [], None, "")
    from onnxruntime.capi import build_and_package_info as build  # noqa: PLC0415

    watch_sessions()  # as in a worker: CUDA's libraries are loaded before the first session
    providers = list(onnxruntime.get_available_providers())
    library = Path(onnxruntime.__file__).parent / _PROVIDER_LIBRARY
    provider, error = None, ""
    if asks_for_cuda and _CUDA in providers:
        provider, error = _provider_in_use(onnxruntime)
    return OnnxFacts(
        version=onnxruntime.__version__,
        cuda=getattr(build, "cuda_version", None) or None,
        providers=providers,
        missing=missing_libraries(library) if library.is_file() else [],
        provider=provider,
        error=error,
    )


def _provider_in_use(onnxruntime: Any) -> tuple[str, str]:
    """The provider that a session gets when it requests CUDA, and why it is another one."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_AND_WORSE
    with tempfile.TemporaryFile() as said:
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            session = onnxruntime.InferenceSession(
                _identity_model(), options, providers=[_CUDA, "CPUExecutionProvider"]
            )
            provider, error, why = str(session.get_providers()[0]), "", session.onnx_use.why
        except Exception as exc:  # noqa: BLE001 - its exception classes come from C++
            provider, error, why = "none", f"{type(exc).__name__}: {exc}", ""
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        said.seek(0)
        lines = said.read().decode(errors="replace").splitlines()
    if not error and provider != _CUDA:
        error = next((line.strip() for line in reversed(lines) if line.strip()), why)
    return provider, error


def _identity_model() -> bytes:
    """An ONNX model that returns its one number. Field numbers as in ``onnx.proto``."""

    def field(number: int, content: bytes | int) -> bytes:
        if isinstance(content, int):
            return bytes([number << 3, content])
        return bytes([number << 3 | 2, len(content)]) + content

    shape = field(2, field(1, field(1, 1)))
    a_float = field(2, field(1, field(1, 1) + shape))
    node = field(1, b"x") + field(2, b"y") + field(4, b"Identity")
    graph = (
        field(1, node)
        + field(2, b"doctor")
        + field(11, field(1, b"x") + a_float)
        + field(12, field(1, b"y") + a_float)
    )
    return field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, 13))
