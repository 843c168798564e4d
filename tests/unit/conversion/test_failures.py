"""What a client is told. Texts of libraries are quoted as those libraries write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from docling.exceptions import ConversionError, OcrLanguageNotSupportedError
from docling_jobkit.connectors.errors import SourceConnectorError
from docling_jobkit.public_errors import TargetWriteError
from pydantic import BaseModel, ValidationError, field_validator

from docling_serve.conversion.failures import (
    MODEL_HELP,
    ModelsNotReady,
    NothingExported,
    describe_failure,
    safe_text,
)
from docling_serve.errors import CUDA_OUT_OF_MEMORY, TOO_LARGE, Failure, TaskNotTransferable
from docling_serve.jobs.rendering import public_failure

HEAD = "/home/server/private/models"


def caught(raising: Callable[[], Any]) -> BaseException:
    try:
        raising()
    except Exception as exc:  # noqa: BLE001 - whatever it is
        return exc
    raise AssertionError("nothing was raised")


class _Options(BaseModel):
    page: int
    path: str = ""

    @field_validator("path")
    @classmethod
    def _exists(cls, path: str) -> str:
        if path:
            raise ValueError(f"no file {path}")
        return path


WRONG_OPTION = caught(lambda: _Options.model_validate({"page": "s3cret"}))


# ---- whose fault ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exc", "category", "retryable", "says"),
    [
        (ConversionError("Input document a.pdf is not valid."), "backend_failure", False, "a.pdf"),
        (WRONG_OPTION, "policy", False, "page: Input should be a valid integer"),
        (TaskNotTransferable("options.a", "no"), "policy", False, "options.a: no"),
        (NotImplementedError("no such pipeline"), "policy", False, "no such pipeline"),
        (ValueError("No class found with the name 'x'"), "policy", False, "name 'x'"),
        (RuntimeError("odd"), "internal", False, "RuntimeError: odd"),
        (KeyError("k"), "internal", False, "KeyError: 'k'"),
        (RuntimeError(""), "internal", False, "RuntimeError: RuntimeError"),
        (MemoryError(), "capacity", True, "ran out of memory"),
        (TimeoutError(), "timeout", True, "time"),
        (TargetWriteError("to /secret"), "target_unavailable", False, "target"),
        (
            SourceConnectorError("gone", source_kind="s3", retryable=True),
            "source_unavailable",
            True,
            "gone",
        ),
        (httpx.ConnectError("refused"), "source_unavailable", True, "could not be reached"),
        (
            ModelsNotReady(OcrLanguageNotSupportedError("RapidOCR", "zzz")),
            "policy",
            False,
            "ocr_lang: RapidOCR has no model for the OCR language 'zzz'",
        ),
    ],
)
def test_an_error_is_put_where_it_belongs(
    exc: BaseException, category: str, retryable: bool, says: str
) -> None:
    failure = describe_failure(exc)

    assert failure.category == category
    assert says in failure.message
    assert failure.retryable is retryable
    assert public_failure(failure).message == failure.message


def test_a_refused_option_is_named_and_its_value_is_not() -> None:
    failure = describe_failure(WRONG_OPTION)

    assert "page" in failure.message
    assert "s3cret" not in failure.message


def complaint(number: int, category: str = "policy", **details: str) -> Failure:
    return Failure(
        category, f"{number}.pdf is bad.", details={"document": f"{number}.pdf", **details}
    )


def test_formats_that_cannot_be_written_are_the_request_s_mistake() -> None:
    failure = describe_failure(NothingExported())

    assert (failure.category, failure.retryable) == ("policy", False)
    assert "formats" in failure.message


def test_the_only_document_s_failure_is_the_task_s() -> None:
    failure = describe_failure(NothingExported([complaint(1, reason=TOO_LARGE)]))

    assert failure.category == "policy"
    assert failure.details == {"document": "1.pdf", "reason": TOO_LARGE}
    assert "1.pdf is bad." in failure.message


@pytest.mark.parametrize(
    ("complaints", "category", "details"),
    [
        (
            [complaint(1, reason=TOO_LARGE), complaint(2, reason=TOO_LARGE)],
            "policy",
            {"reason": TOO_LARGE},
        ),
        ([complaint(1, reason=TOO_LARGE), complaint(2)], "policy", {}),
        ([complaint(1), complaint(2, "source_unavailable")], "backend_failure", {}),
    ],
)
def test_several_documents_fail_with_what_they_have_in_common(
    complaints: list[Failure], category: str, details: dict[str, str]
) -> None:
    failure = describe_failure(NothingExported(complaints))

    assert (failure.category, failure.details) == (category, details)
    assert "1.pdf is bad. 2.pdf is bad." in failure.message


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("not allowed: http://me:pw@host/a.pdf", "not allowed: http://***@host/a.pdf"),
        ("at https://s3/x?X-Amz-Signature=abc&n=1", "at https://s3/x?X-Amz-Signature=***&n=1"),
        ("at https://h/x?access_token=abc", "at https://h/x?access_token=***"),
        ("sent 'Authorization: Bearer abcdefgh12'", "sent 'Authorization: Bearer ***'"),
        ("page 3 of http://host/a?page=3", "page 3 of http://host/a?page=3"),
    ],
)
def test_secrets_of_addresses_are_not_told(text: str, safe: str) -> None:
    assert safe_text(text) == safe


def test_gpu_memory_that_ran_out_is_told_apart() -> None:
    exc = RuntimeError("the model failed")
    exc.__cause__ = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    for failure in (describe_failure(exc), describe_failure(ModelsNotReady(exc))):
        assert (failure.category, failure.retryable) == ("capacity", True)
        assert failure.details["reason"] == CUDA_OUT_OF_MEMORY


# ---- what is not told ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"[Errno 2] No such file or directory: '{HEAD}/a.onnx'",
        f"cannot open {HEAD}/a.onnx",
        f"path={HEAD}/a.onnx, mode=r",
        f"({HEAD}/a.onnx)",
        f'"{HEAD}/a.onnx"',
        f"{HEAD}/a.onnx",
        f"file://{HEAD}/a.onnx is not there",
        f"{HEAD}/with space/a.onnx",
        f"first {HEAD}/a.onnx\nsecond {HEAD}/b.onnx",
    ],
)
@pytest.mark.parametrize(
    "kind",
    [RuntimeError, ValueError, OSError, ConversionError, NotImplementedError, ModelsNotReady],
)
def test_no_path_of_the_server_is_told(kind: type[Exception], text: str) -> None:
    exc: BaseException = RuntimeError(text)
    exc = ModelsNotReady(exc) if kind is ModelsNotReady else kind(text)

    message = describe_failure(exc).message
    assert "server/private" not in message
    assert "/home" not in message


def test_no_path_is_told_by_a_validator_either() -> None:
    exc = caught(lambda: _Options.model_validate({"page": 1, "path": f"{HEAD}/a.onnx"}))

    assert isinstance(exc, ValidationError)
    assert "/home" not in describe_failure(exc).message


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/a/b.pdf could not be read",
        "File format not allowed: a.xyz",
        "3/4 pages and 1/2 more",
        "and/or",
    ],
)
def test_what_is_no_path_is_told(text: str) -> None:
    assert text in describe_failure(RuntimeError(text)).message


def test_a_long_text_is_cut() -> None:
    assert len(describe_failure(RuntimeError("x" * 10_000)).message) < 600


@pytest.mark.parametrize("debug", [True, False])
def test_the_trace_is_told_only_where_it_was_asked_for(debug: bool) -> None:
    exc = caught(lambda: dict[str, int]()["missing"])
    details = describe_failure(exc, debug=debug).details

    assert ("trace" in details) is debug
    if debug:
        assert "KeyError: 'missing'" in details["trace"]
        assert len(details["trace"]) <= 4000


# ---- models --------------------------------------------------------------------------------------


def _not_cached() -> BaseException:
    """What huggingface_hub raises offline, for a model that is not in its cache."""
    offline = ConnectionError(
        "Cannot reach https://huggingface.co/api/models/docling-project/docling-layout-heron"
        "/revision/main: offline mode is enabled. To disable it, please unset the "
        "`HF_HUB_OFFLINE` environment variable."
    )
    exc = FileNotFoundError(
        "Cannot find an appropriate cached snapshot folder for the specified revision on the local "
        "disk and outgoing traffic has been disabled. To enable repo look-ups and downloads "
        "online, set 'HF_HUB_OFFLINE=0' as environment variable."
    )
    exc.__cause__ = offline
    return exc


def test_a_missing_model_is_named_with_what_to_do() -> None:
    failure = describe_failure(ModelsNotReady(_not_cached()))

    assert failure.category == "internal"
    assert failure.phase == "orchestration"
    assert "docling-project/docling-layout-heron" in failure.message
    assert failure.message.endswith(MODEL_HELP)
    assert "examples/embedded.yaml" in failure.message


def test_nothing_else_is_taken_for_a_model() -> None:
    named = describe_failure(ModelsNotReady(_not_cached())).message.partition(":")[0]

    assert "huggingface.co/" not in named
    assert "/revision" not in named


def test_parts_of_a_path_are_not_taken_for_a_model() -> None:
    exc = ModelsNotReady(FileNotFoundError(2, "No such file or directory", f"{HEAD}/a/b.onnx"))

    message = describe_failure(exc).message
    assert "server/private" not in message
    assert "models/a" not in message


def test_too_little_memory_for_models_is_no_missing_model() -> None:
    failure = describe_failure(ModelsNotReady(MemoryError("cannot allocate 2 GiB")))

    assert (failure.category, failure.retryable) == ("capacity", True)
    assert "memory" in failure.message
    assert MODEL_HELP not in failure.message
