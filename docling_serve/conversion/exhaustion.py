"""Recognise from an error that memory ran out, of the GPU or of the host.

docling reports a page for which memory ran out like a damaged one. But it is not the document's
fault, and the process it happened in must not be trusted with another document.
"""

from __future__ import annotations

from collections.abc import Iterable

from docling.datamodel.base_models import DoclingComponentType, ErrorItem

from docling_serve.errors import CUDA_OUT_OF_MEMORY, DISK_FULL, OUT_OF_MEMORY, Failure, disk_is_full
from docling_serve.internals.memory_texts import gpu_memory_ran_out, host_memory_ran_out
from docling_serve.internals.onnx_sessions import asked_for_cuda


class MemoryRanOut(Exception):
    """A page could not be converted for lack of memory; ``failure`` says of which kind."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def raise_if_memory_ran_out(errors: Iterable[ErrorItem]) -> None:
    """Check the errors that docling reports for a document.

    Raises:
        MemoryRanOut: one of them says that memory ran out.
    """
    for error in errors:
        if error.component_type is not DoclingComponentType.USER_INPUT:
            failure = out_of_memory(error.error_message)
            if failure is not None:
                raise MemoryRanOut(failure)


def exhausted(chain: Iterable[BaseException]) -> Failure | None:
    """Which memory of this machine ran out, if one of these errors says so."""
    for exc in chain:
        if isinstance(exc, MemoryRanOut):
            return exc.failure
        if disk_is_full(exc):
            return DISK_FULL
        failure = out_of_memory(f"{type(exc).__name__}: {exc}")
        if failure is not None:
            return failure
    return None


def out_of_memory(text: str) -> Failure | None:
    """The failure for an error with this ``text``, if it reports a lack of memory."""
    if gpu_memory_ran_out(text, on_gpu=asked_for_cuda()):
        return _failure("The GPU ran out of memory.", CUDA_OUT_OF_MEMORY)
    if host_memory_ran_out(text):
        return _failure("The conversion ran out of memory.", OUT_OF_MEMORY)
    return None


def _failure(message: str, reason: str) -> Failure:
    return Failure("capacity", message, retryable=True, details={"reason": reason})
