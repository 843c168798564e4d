"""Error texts of libraries, as people reported them, and what each of them means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docling_serve.conversion import exhaustion
from docling_serve.conversion.failures import describe_failure
from docling_serve.errors import CUDA_OUT_OF_MEMORY, OUT_OF_MEMORY

_REASONS = {"gpu": CUDA_OUT_OF_MEMORY, "host": OUT_OF_MEMORY, None: None}
#: ``sessions_on`` is where ONNX Runtime's sessions of the process run; its arena does not say.
REPORTED = json.loads((Path(__file__).parent / "memory_errors.json").read_text())


@pytest.mark.parametrize("reported", REPORTED, ids=lambda each: each["from"])
def test_a_reported_error_is_taken_for_what_it_is(
    reported: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_cuda = reported["sessions_on"] == "cuda"
    monkeypatch.setattr(exhaustion, "asked_for_cuda", lambda: on_cuda)

    failure = describe_failure(RuntimeError(reported["text"]))

    assert failure.details.get("reason") == _REASONS[reported["means"]]
    assert failure.retryable is (reported["means"] is not None)


def test_every_report_has_a_source() -> None:
    assert all(reported["source"] for reported in REPORTED)
    assert {reported["means"] for reported in REPORTED} == {"gpu", "host", None}


def test_what_rapidocr_wraps_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    """It raises an error of its own, with the traceback of ONNX Runtime's as its text."""
    monkeypatch.setattr(exhaustion, "asked_for_cuda", lambda: True)
    text = next(each["text"] for each in REPORTED if "BFCArena" in each["text"])
    wrapped = RuntimeError(f"Traceback (most recent call last):\n  File ...\n{text}\n")

    failure = describe_failure(wrapped)

    assert failure.details["reason"] == CUDA_OUT_OF_MEMORY
