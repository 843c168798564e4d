"""Say why a conversion failed, in words that help the client and give nothing away."""

from __future__ import annotations

import errno
import re
import traceback

from docling.exceptions import ConversionError
from docling_jobkit.datamodel.result import FailurePhase
from docling_jobkit.public_errors import INTERNAL_TASK_ERROR_MESSAGE, classify_public_task_failure
from pydantic import ValidationError

from docling_serve.errors import CUDA_OUT_OF_MEMORY, Failure, TaskNotTransferable

#: A repository in an address of the model hub, in a folder of its cache, or named on its own.
_IN_HUB_ADDRESS = re.compile(r"/(?:api/models/)?([\w.-]+/[\w.-]+)/(?:revision|resolve|tree)/")
_IN_HUB_CACHE = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
_ON_ITS_OWN = re.compile(r"(?<![\w./:-])([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]+)(?![\w./-])")
_ABSOLUTE_PATH = re.compile(r"(?:file:/*(?=/)|(?<![\w:/]))/(?:[\w.@+ -]+/)+[\w.@+-]*")
_DETAIL_LIMIT = 4000
_NOTHING_TO_SEND = (
    "There is no result: none of the documents could be converted, or none of the formats asked "
    "for can be written to this target."
)
#: jobkit's words when no document could be converted, or nothing of them written.
NOTHING_EXPORTED = "No documents were exported."

MODEL_HELP = (
    "Download the models once with 'docling-tools models download' and point "
    "DOCLING_SERVE_ARTIFACTS_PATH at them, or start the server with "
    "DOCLING_SERVE_CONFIG_FILE=examples/ocr-only.yaml, which needs no model hub."
)


class ModelsNotReady(Exception):
    """A pipeline could not be built; the cause says which part of it."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.__cause__ = cause


class NothingExported(Exception):
    """No file came out of a task; its text says what was wrong with each document."""


def describe_failure(exc: BaseException, *, debug: bool = False) -> Failure:
    """Classify ``exc``. With ``debug`` the traceback goes into ``details["trace"]``."""
    failure = _classify(exc)
    if debug:
        trace = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
        failure.details["trace"] = trace[-_DETAIL_LIMIT:]
    return failure


def _classify(exc: BaseException) -> Failure:
    if isinstance(exc, ModelsNotReady):
        return _models_not_ready(exc.__cause__ or exc)
    if isinstance(exc, ValidationError | TaskNotTransferable | NotImplementedError):
        return Failure("policy", f"The request cannot be converted: {_safe_text(exc)}")
    if isinstance(exc, NothingExported) or str(exc) == NOTHING_EXPORTED:
        why = _safe_text(exc) if isinstance(exc, NothingExported) and str(exc) else ""
        return Failure("backend_failure", f"{_NOTHING_TO_SEND} {why}".strip())
    if isinstance(exc, ConversionError):
        return Failure("backend_failure", _safe_text(exc))
    exhausted = _exhausted(exc)
    if exhausted is not None:
        return exhausted
    public = classify_public_task_failure(exc, task_id="", phase=FailurePhase.EXECUTION)
    message = public.message
    if message == INTERNAL_TASK_ERROR_MESSAGE:
        message = f"{type(exc).__name__}: {_safe_text(exc)}"
    category = public.category.value
    if isinstance(exc, ValueError) and category == "internal":
        # jobkit refuses unknown presets, kinds and engines with a plain ValueError.
        category = "policy"
    return Failure(category, message, public.retryable, public.phase.value, dict(public.details))


def _exhausted(exc: BaseException) -> Failure | None:
    """What of this machine ran out, if anything did."""
    if _is_cuda_out_of_memory(exc):
        return _cuda_out_of_memory()
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure("capacity", "The server's scratch disk is full.", retryable=True)
    return None


def _is_cuda_out_of_memory(exc: BaseException) -> bool:
    return any("CUDA" in str(err) and "out of memory" in str(err).lower() for err in _chain(exc))


def _cuda_out_of_memory() -> Failure:
    return Failure(
        "capacity",
        "The GPU ran out of memory.",
        retryable=True,
        details={"reason": CUDA_OUT_OF_MEMORY},
    )


def _models_not_ready(cause: BaseException) -> Failure:
    if _is_cuda_out_of_memory(cause):
        return _cuda_out_of_memory()
    text = _safe_text(cause)
    if isinstance(cause, MemoryError) or "out of memory" in text.lower():
        return Failure("capacity", f"Not enough memory to load the models: {text}", retryable=True)
    names = _model_names(cause)
    named = f" ({', '.join(names[:3])})" if names else ""
    return Failure(
        "internal",
        f"A model that this conversion needs could not be loaded{named}: {text} {MODEL_HELP}",
        phase="orchestration",
    )


def _model_names(cause: BaseException) -> list[str]:
    """Which models the error is about; the surest place of a name wins."""
    text = "\n".join(str(err) for err in _chain(cause))
    for names in (
        _IN_HUB_ADDRESS.findall(text),
        ["/".join(parts) for parts in _IN_HUB_CACHE.findall(text)],
        _ON_ITS_OWN.findall(text),
    ):
        if names:
            return sorted(set(names))
    return []


def _chain(exc: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while exc is not None and exc not in chain:
        chain.append(exc)
        exc = exc.__cause__ or exc.__context__
    return chain


def _safe_text(exc: BaseException) -> str:
    """The first lines of the error, without paths of this machine."""
    if isinstance(exc, ValidationError):
        parts = exc.errors(include_url=False, include_input=False, include_context=False)
        told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in parts[:5])
        return _ABSOLUTE_PATH.sub("[path]", told)
    text = " ".join(str(exc).split()) or type(exc).__name__
    return _ABSOLUTE_PATH.sub("[path]", text)[:500]
