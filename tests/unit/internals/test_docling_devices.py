"""Which device RapidOCR gets, with and without a GPU, and when torch has to be asked."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from docling.exceptions import AcceleratorDeviceNotAvailableError
from docling.models.stages.ocr import rapid_ocr_model
from docling.utils import accelerator_utils

from docling_serve.internals import docling_devices

CUDA = {"cuda": "13.0", "hip": None, "xpu": None}
CPU_ONLY = {"cuda": None, "hip": None, "xpu": None}
ROCM = {"cuda": None, "hip": "6.4", "xpu": None}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What torch, which is not imported here, was asked."""
    asked: list[str] = []

    def answer(device: str) -> str:
        asked.append(device)
        return "asked"

    monkeypatch.setattr(docling_devices, "ask_torch", answer)
    monkeypatch.setattr(docling_devices, "is_loaded", lambda _: False)
    return asked


@pytest.mark.parametrize(
    ("build", "gpu", "device", "expected"),
    [
        (CUDA, False, "auto", "cpu"),
        (CUDA, True, "auto", "cuda:0"),
        (CUDA, True, "cuda", "cuda:0"),
        (CUDA, True, "cpu", "cpu"),
        (CPU_ONLY, True, "auto", "cpu"),
        ({}, True, "auto", "cpu"),
        # Only torch knows whether there is such a device, or what it says if there is not.
        (CUDA, True, "cuda:1", "asked"),
        (CUDA, False, "cuda", "asked"),
        (CPU_ONLY, True, "cuda", "asked"),
        (CUDA, True, "mps", "asked"),
        (ROCM, True, "auto", "asked"),
    ],
)
def test_torch_is_asked_only_where_it_must_be(
    monkeypatch: pytest.MonkeyPatch,
    asked: list[str],
    build: Mapping[str, str | None],
    gpu: bool,
    device: str,
    expected: str,
) -> None:
    monkeypatch.setattr(docling_devices, "torch_build", lambda: build)
    monkeypatch.setattr(docling_devices, "_shows_gpu", lambda: gpu)

    assert docling_devices.decide_device(device) == expected
    assert asked == ([device] if expected == "asked" else [])


@pytest.mark.parametrize(
    ("provider", "gpu", "device", "expected"),
    [
        (True, True, "auto", "cuda:0"),
        (True, True, "cuda", "cuda:0"),
        (True, True, "cuda:1", "cuda:1"),
        (True, True, "cpu", "cpu"),
        (True, False, "auto", "cpu"),
        (False, True, "auto", "cpu"),
        (False, True, "cuda", "refused: ONNX Runtime has no device 'cuda' here."),
        (True, True, "mps", "refused: ONNX Runtime has no device 'mps' here."),
    ],
)
def test_onnx_runtime_decides_in_a_lite_install(
    monkeypatch: pytest.MonkeyPatch,
    asked: list[str],
    provider: bool,
    gpu: bool,
    device: str,
    expected: str,
) -> None:
    monkeypatch.setattr(docling_devices, "is_lite", lambda: True)
    monkeypatch.setattr(docling_devices, "onnx_can_use_cuda", lambda: provider)
    monkeypatch.setattr(docling_devices, "_shows_gpu", lambda: gpu)

    assert _outcome(docling_devices.decide_device, device) == expected
    assert asked == []


def test_torch_answers_once_it_is_there(monkeypatch: pytest.MonkeyPatch, asked: list[str]) -> None:
    monkeypatch.setattr(docling_devices, "is_loaded", lambda library: library == "torch")

    assert docling_devices.decide_device("cpu") == "asked"
    assert asked == ["cpu"]


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:7", "mps", "abacus"])
def test_the_answers_are_those_of_docling(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(docling_devices, "is_loaded", lambda _: False)

    assert _outcome(docling_devices.decide_device, device) == _outcome(
        accelerator_utils.decide_device, device
    )


def _outcome(decide: object, device: str) -> str:
    assert callable(decide)
    try:
        return str(decide(device))
    except AcceleratorDeviceNotAvailableError as exc:
        return f"refused: {exc}"


def test_the_build_of_torch_is_read_without_its_import() -> None:
    import torch

    assert docling_devices.torch_build()["cuda"] == torch.version.cuda


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_gpu_may_be_hidden(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)

    assert docling_devices._shows_gpu() is False


def test_the_stage_asks_our_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rapid_ocr_model, "decide_device", accelerator_utils.decide_device)

    docling_devices.answer_for_rapidocr()

    assert vars(rapid_ocr_model)["decide_device"] is docling_devices.decide_device
