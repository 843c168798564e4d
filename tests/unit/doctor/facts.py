"""Facts of a healthy machine, for tests that change one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from docling_serve.doctor.facts import (
    Answer,
    Card,
    EngineFacts,
    Facts,
    GpuFacts,
    ModeFacts,
    OnnxFacts,
    StageFacts,
    TorchFacts,
    WorkerFacts,
)

GIB = 1024**3
CARD = Card(0, "GPU-1", "Some card", 16 * GIB, GIB)
CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]

NO_GPU = GpuFacts("none", "no NVIDIA driver", [], [], [], None, None, [], None)
GPU = GpuFacts("known", "", [CARD], [], [], "580.95.05", 13000, ["/dev/nvidia0"], None, ["GPU-1"])
TORCH = TorchFacts("2.15.0+cu132", "13.2", True, "")
ONNX = OnnxFacts("1.31.1", "13.0", CUDA, [], CUDA[0], "")
STAGES = [
    StageFacts("OCR", "rapidocr", "onnxruntime", "cuda:0"),
    StageFacts("layout", "docling_layout_default", "torch", "cuda:0"),
    StageFacts("tables", "none", "", ""),
]
WORKERS = WorkerFacts(
    "spawn", 2.0, 220_000_000, {"core_dumps_off": "on", "nice": "not asked for"}, None, 200, 9, 0.1
)
MODE = ModeFacts("auto", True, "auto", 1, 1, "spawn", True, 3 * GIB, 0, 600.0, [])


def machine(**changes: Any) -> Facts:
    """A machine with one card on which all is well, but for ``changes``: facts by name, wrapped."""
    healthy = Facts(
        gpu=Answer(GPU),
        onnxruntime=Answer(ONNX),
        engines=Answer(EngineFacts("auto", TORCH, STAGES, "")),
        workers=Answer(WORKERS),
        mode=Answer(MODE),
        distributions={"torch": "2.15.0", "onnxruntime-gpu": "1.31.1"},
    )
    return replace(healthy, **changes)


def on_cpu(**changes: Any) -> Facts:
    """A machine without a GPU on which all is well."""
    stages = [replace(one, device="cpu" if one.library else "") for one in STAGES]
    torch = replace(TORCH, available=False, error="Found no NVIDIA driver on your system. Please")
    facts: dict[str, Any] = {
        "gpu": Answer(NO_GPU),
        "onnxruntime": Answer(
            replace(ONNX, cuda=None, providers=["CPUExecutionProvider"], provider=None)
        ),
        "engines": Answer(EngineFacts("auto", torch, stages, "")),
        "distributions": {"torch": "2.15.0", "onnxruntime": "1.32.0"},
    }
    return machine(**{**facts, **changes})
