"""Explain why a conversion failed, in words that help the client and leak nothing."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Sequence
from dataclasses import replace

from docling.datamodel.base_models import ConversionStatus, FailureCategory, InputFormat
from docling.datamodel.document import (
    ConversionResult,
    InputDocument,
    InputRejection,
    build_invalid_input_errors,
    get_input_rejection_cause,
)
from docling.exceptions import ConversionError, OcrLanguageNotSupportedError
from docling_jobkit.datamodel.result import FailurePhase
from docling_jobkit.public_errors import INTERNAL_TASK_ERROR_MESSAGE, classify_public_task_failure
from pydantic import ValidationError

from docling_serve.conversion.document_limits import OverLimit
from docling_serve.conversion.exhaustion import exhausted
from docling_serve.conversion.guarded_backends import DocumentRefused
from docling_serve.conversion.plain_words import plain
from docling_serve.errors import (
    TOO_LARGE,
    UNSUPPORTED_FORMAT,
    Failure,
    TaskNotTransferable,
)

#: A repository in an address of the model hub, in a folder of its cache, or named on its own.
_IN_HUB_ADDRESS = re.compile(r"/(?:api/models/)?([\w.-]+/[\w.-]+)/(?:revision|resolve|tree)/")
_IN_HUB_CACHE = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
_ON_ITS_OWN = re.compile(r"(?<![\w./:-])([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]+)(?![\w./-])")
_ABSOLUTE_PATH = re.compile(r"(?:file:/*(?=/)|(?<![\w:/]))/(?:[\w.@+ -]+/)+[\w.@+-]*")
#: Secrets in an address: the name and password, and parameters that grant access.
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_SECRET_PARAMETER = re.compile(
    r"([?&][\w.-]*(?:signature|sig|token|key|secret|password|credential)[\w.-]*=)[^&\s'\"]+", re.I
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")
_DETAIL_LIMIT = 4000
#: docling lists every language that the engine supports.
_LANGUAGES_LIMIT = 1500
_NO_FORMAT = "None of the requested formats can be written to this target."
_NO_DOCUMENT = "None of the documents could be converted."
#: jobkit's text when no document could be converted, or none of them could be written.
NOTHING_EXPORTED = "No documents were exported."

MODEL_HELP = (
    "Download the models once with 'docling-tools models download' and point "
    "DOCLING_SERVE_ARTIFACTS_PATH at them, or start the server with "
    "DOCLING_SERVE_CONFIG_FILE=examples/embedded.yaml, which needs no model hub."
)


class ModelsNotReady(Exception):
    """A pipeline could not be built; the cause says which part of it."""

    category = "internal"
    what = "A model that this conversion needs"
    way_out = MODEL_HELP

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.__cause__ = cause


class ChunkerNotReady(ModelsNotReady):
    """A chunker could not be created; ``tokenizer`` is what it needs."""

    category = "policy"  # a request may name any tokenizer
    way_out = "Use the hierarchical chunker, which needs none, or provide the files on the server."

    def __init__(self, cause: BaseException, tokenizer: str) -> None:
        super().__init__(cause)
        self.what = f"The chunker's tokenizer {tokenizer}"


class NothingExported(Exception):
    """A task produced no file. ``complaints`` says what was wrong with each document; if empty, the
    formats were the cause."""

    def __init__(self, complaints: Sequence[Failure] = ()) -> None:
        super().__init__(NOTHING_EXPORTED)
        self.complaints = list(complaints)


class DocumentFailed(Exception):
    """A document failed in a task that must stop at the first failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def describe_failure(exc: BaseException, *, debug: bool = False) -> Failure:
    """Classify ``exc``. With ``debug`` the traceback goes into ``details["trace"]``."""
    failure = _classify(exc)
    if debug:
        trace = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
        failure = replace(failure, details={**failure.details, "trace": trace[-_DETAIL_LIMIT:]})
    return failure


def _classify(exc: BaseException) -> Failure:
    if isinstance(exc, ModelsNotReady):
        return _models_not_ready(exc)
    if isinstance(exc, ValidationError | TaskNotTransferable | NotImplementedError):
        return Failure("policy", f"The request cannot be converted: {_safe_text(exc)}")
    if isinstance(exc, DocumentFailed | NothingExported):
        return exc.failure if isinstance(exc, DocumentFailed) else _nothing_exported(exc.complaints)
    if isinstance(exc, ConversionError):
        return Failure("backend_failure", _safe_text(exc))
    ran_out = exhausted(_chain(exc))
    if ran_out is not None:
        return ran_out
    public = classify_public_task_failure(exc, task_id="", phase=FailurePhase.EXECUTION)
    message = public.message
    if message == INTERNAL_TASK_ERROR_MESSAGE:
        message = f"{type(exc).__name__}: {_safe_text(exc)}"
    category = public.category.value
    if isinstance(exc, ValueError) and category == "internal":
        # jobkit refuses unknown presets, kinds and engines with a plain ValueError.
        category = "policy"
    if isinstance(exc, OSError) and exc.errno == errno.ENAMETOOLONG:
        category, message = "policy", "A document's name is too long for a file in the result."
    return Failure(category, message, public.retryable, public.phase.value, dict(public.details))


def _models_not_ready(exc: ModelsNotReady) -> Failure:
    cause = exc.__cause__ or exc
    chain = _chain(cause)
    ran_out = exhausted(chain)
    if ran_out is not None:
        return ran_out
    if any(isinstance(error, OcrLanguageNotSupportedError) for error in chain):
        return Failure("policy", f"ocr_lang: {safe_text(str(cause))[:_LANGUAGES_LIMIT]}")
    text = _safe_text(cause)
    if not text.endswith((".", "!", "?")):
        text += "."
    names = _model_names(cause)
    named = f" ({', '.join(names[:3])})" if names else ""
    return Failure(
        exc.category,
        f"{exc.what} could not be loaded{named}: {text} {exc.way_out}",
        phase="orchestration",
    )


def _model_names(cause: BaseException) -> list[str]:
    """Which models the error is about; the most reliable place of a name wins."""
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


def document_failure(result: ConversionResult, name: str, number: int) -> Failure | None:
    """The failure of a document; None if it was converted.

    ``name`` and ``number``, from 1, are those of the source it came from.
    """
    if result.status in (ConversionStatus.SUCCESS, ConversionStatus.PARTIAL_SUCCESS):
        return None
    errors = result.errors
    category = next(
        (e.category for e in errors if e.category is not FailureCategory.UNKNOWN),
        FailureCategory.BACKEND_FAILURE,
    )
    details = {"document": name, "document_number": str(number)}
    page = next((e.page_no for e in errors if e.page_no is not None), None)
    if page is not None:
        details["page"] = str(page)
    reason = _reason(result)
    if reason is not None:
        details["reason"] = reason
    why = safe_text("; ".join(e.error_message for e in errors)) or f"it was {result.status.value}."
    return Failure(
        category.value,
        why if why.startswith(name) else f"{name} could not be converted: {why}",
        retryable=category is FailureCategory.SOURCE_UNAVAILABLE,
        phase="source_enumeration"
        if category is FailureCategory.SOURCE_UNAVAILABLE
        else "execution",
        details=details,
    )


def tidy(
    result: ConversionResult,
    name: str = "The document",
    size: int | None = None,
    formats: Sequence[InputFormat] = (),
) -> None:
    """Say what is wrong with the document ``name`` of ``size`` bytes, remove from the errors what
    must not leave the server, and mark a refusal as one. ``formats`` are those it might have."""
    refusal = _is_refused(result)
    for error in result.errors:
        text = error.error_message
        error.error_message = safe_text(text if refusal else plain(text, name, size, formats))
        if refusal:
            error.category = FailureCategory.POLICY


def refused(name: str, size: int, why: Exception) -> ConversionResult:
    """The result of a document that is never passed to docling."""
    document = InputDocument.create_invalid(
        filename=name,
        format=InputFormat.PDF,  # one is required, and it was not examined
        filesize=size,
        rejection=InputRejection(str(why), FailureCategory.POLICY, why),
    )
    return ConversionResult(
        input=document,
        status=ConversionStatus.FAILURE,
        errors=build_invalid_input_errors(document),
    )


def _is_refused(result: ConversionResult) -> bool:
    return isinstance(get_input_rejection_cause(result.input), DocumentRefused | OverLimit)


def _reason(result: ConversionResult) -> str | None:
    """Why a document was refused before it was opened, if that is what happened."""
    if result.status is ConversionStatus.SKIPPED:
        return UNSUPPORTED_FORMAT
    if _is_refused(result):
        return TOO_LARGE
    document, limits = result.input, result.input.limits
    if (document.filesize or 0) > limits.max_file_size:
        return TOO_LARGE
    return TOO_LARGE if document.page_count > limits.max_num_pages else None


def _nothing_exported(complaints: Sequence[Failure]) -> Failure:
    """One failure for all documents; what they have in common decides its category."""
    if not complaints:
        return Failure("policy", _NO_FORMAT)
    first = complaints[0]
    if len(complaints) == 1:
        return replace(first, message=f"{_NO_DOCUMENT} {first.message}")
    categories = {complaint.category for complaint in complaints}
    reasons = {complaint.details.get("reason") for complaint in complaints}
    reason = first.details.get("reason") if len(reasons) == 1 else None
    return Failure(
        first.category if len(categories) == 1 else "backend_failure",
        " ".join([_NO_DOCUMENT, *(complaint.message for complaint in complaints[:5])]),
        retryable=all(complaint.retryable for complaint in complaints),
        details={} if reason is None else {"reason": reason},
    )


def safe_text(text: str) -> str:
    """``text`` on one line, without paths of this machine and without secrets in addresses."""
    text = _CREDENTIALS.sub("***", " ".join(text.split()))
    text = _BEARER.sub(r"\1 ***", _SECRET_PARAMETER.sub(r"\1***", text))
    return _ABSOLUTE_PATH.sub("[path]", text)


def _safe_text(exc: BaseException) -> str:
    """The first lines of the error, without paths of this machine."""
    if isinstance(exc, ValidationError):
        parts = exc.errors(include_url=False, include_input=False, include_context=False)
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in parts[:5])
        return safe_text(problems)
    return (safe_text(str(exc)) or type(exc).__name__)[:500]
