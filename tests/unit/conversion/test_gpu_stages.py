from __future__ import annotations

from typing import Any

import pytest
import yaml
from docling.datamodel.accelerator_options import AcceleratorOptions
from docling.datamodel.pipeline_options import PdfPipelineOptions
from docling.pipeline.standard_pdf_pipeline import StandardPdfPipeline

from docling_serve.conversion import gpu_stages
from docling_serve.conversion.conversion import Conversion
from docling_serve.jobs.spec import JobSpec, StagedFile
from tests.helpers.server import OCR_ONLY

OCR_PROFILE: dict[str, Any] = yaml.safe_load(OCR_ONLY.read_text())
CUSTOM_OCR = {"allow_custom_ocr_config": True}


def uses(config: dict[str, Any], **options: Any) -> bool:
    source = StagedFile(path="input/0", filename="scan.pdf")
    spec = JobSpec(task_id="t", sources=[source], options=options)
    return Conversion(config).may_use_gpu(spec)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what the installed libraries can do."""

    def libraries(*, torch: bool = False, onnx: bool = False) -> None:
        monkeypatch.setattr(gpu_stages, "torch_can_use_cuda", lambda: torch)
        monkeypatch.setattr(gpu_stages, "onnx_can_use_cuda", lambda: onnx)

    monkeypatch.delenv("DOCLING_DEVICE", raising=False)
    return libraries


def test_ocr_alone_on_an_onnx_runtime_for_the_cpu_uses_none(cuda: Any) -> None:
    cuda(torch=True, onnx=False)  # a plain installation: every wheel of torch has CUDA
    assert not uses(OCR_PROFILE)
    assert not uses(OCR_PROFILE, force_ocr=True)

    cuda(torch=False, onnx=True)
    assert uses(OCR_PROFILE)
    assert not uses(OCR_PROFILE, do_ocr=False)


@pytest.mark.parametrize(
    ("ocr", "torch", "onnx"),
    [
        ({"kind": "rapidocr", "backend": "torch"}, True, False),
        ({"kind": "rapidocr", "backend": "onnxruntime"}, False, True),
        ({"kind": "easyocr"}, True, False),
        ({"kind": "easyocr", "use_gpu": False}, False, False),
        ({"kind": "tesseract"}, False, False),
        ({"kind": "nemotron-ocr"}, True, True),
    ],
)
def test_an_engine_uses_what_its_own_library_can(
    cuda: Any, ocr: dict[str, Any], torch: bool, onnx: bool
) -> None:
    config = OCR_PROFILE | CUSTOM_OCR
    for library, expected in (("torch", torch), ("onnx", onnx)):
        cuda(**{library: True})
        assert uses(config, ocr_custom_config=ocr) is expected, library


def test_doclings_own_models_run_on_torch(cuda: Any) -> None:
    cuda(torch=True)
    assert uses({})
    assert uses(OCR_PROFILE, do_picture_classification=True)
    cuda(onnx=False)
    assert not uses({})


@pytest.mark.parametrize(("device", "expected"), [("cpu", False), ("cuda:1", True)])
def test_on_the_cpu_by_choice_nothing_uses_one(cuda: Any, device: str, expected: bool) -> None:
    cuda(torch=True, onnx=True)
    options = PdfPipelineOptions(accelerator_options=AcceleratorOptions(device=device))
    assert gpu_stages.may_use_gpu(StandardPdfPipeline, options) is expected
