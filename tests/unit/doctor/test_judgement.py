"""From facts to findings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from docling_serve.doctor.facts import Answer, Card, EngineFacts, Facts, Holder
from docling_serve.doctor.findings import Area, Finding, Level, exit_status
from docling_serve.doctor.judgement import judge
from tests.unit.doctor.facts import (
    CARD,
    CUDA,
    GIB,
    GPU,
    MODE,
    NO_GPU,
    ONNX,
    STAGES,
    TORCH,
    WORKERS,
    machine,
    on_cpu,
)

CPU_ONLY = replace(
    ONNX, version="1.32.0", cuda=None, providers=["CPUExecutionProvider"], provider=None
)
TORCH_ON_CPU = [replace(one, device="cpu") if one.library else one for one in STAGES]


def said(facts: Facts, level: Level) -> list[str]:
    """What is said at one level."""
    return [finding.text for finding in judge(facts) if finding.level is level]


def engines(**torch: object) -> Answer[EngineFacts]:
    """torch with changes, and stages that docling then puts on the CPU."""
    return Answer(EngineFacts("auto", replace(TORCH, **torch), TORCH_ON_CPU, ""))  # type: ignore[arg-type]


@pytest.mark.parametrize("facts", [machine(), on_cpu()], ids=["one card", "no GPU"])
def test_a_healthy_machine_has_no_warnings(facts: Facts) -> None:
    assert said(facts, Level.WARNING) + said(facts, Level.PROBLEM) == []
    assert exit_status(judge(facts)) == 0


def test_areas_come_in_their_order() -> None:
    areas = [finding.area for finding in judge(machine())]

    assert areas == sorted(areas, key=list(Area).index)
    assert set(areas) == set(Area) - {Area.CONVERSION}


def test_a_machine_without_a_gpu_says_so() -> None:
    (note,) = said(on_cpu(), Level.NOTE)

    assert note == "No NVIDIA GPU: no NVIDIA driver. Conversions run on the CPU."
    assert "OCR: rapidocr runs on ONNX Runtime, cpu." in said(on_cpu(), Level.OK)


def test_a_warning_needs_advice() -> None:
    with pytest.raises(ValueError, match="no advice"):
        Finding(Area.GPU, Level.WARNING, "Something is odd.")


BAD: dict[str, tuple[Facts, Level, str]] = {
    "the driver hangs": (
        machine(gpu=Answer(failure="no answer within 30 s")),
        Level.PROBLEM,
        "cannot be read: no answer within 30 s",
    ),
    "a driver without its management library": (
        machine(gpu=Answer(replace(NO_GPU, device_files=["/dev/nvidia0"]))),
        Level.WARNING,
        "/dev/nvidia0 is there, but memory cannot be read",
    ),
    "no figures": (
        machine(gpu=Answer(replace(GPU, state="unknown", reason="GPU is lost", cards=[]))),
        Level.WARNING,
        "reports no memory figures: GPU is lost",
    ),
    "CUDA shows nothing": (
        machine(gpu=Answer(replace(GPU, cuda_order=[], cuda_error="error 100 of cuInit"))),
        Level.WARNING,
        "CUDA shows no card: error 100 of cuInit",
    ),
    "torch without CUDA": (
        machine(engines=engines(cuda=None, available=False)),
        Level.WARNING,
        "built without CUDA, and this machine has an NVIDIA GPU",
    ),
    "torch cannot use the card": (
        machine(engines=engines(available=False, error="CUDA unknown error")),
        Level.PROBLEM,
        "cannot use the GPU: CUDA unknown error",
    ),
    "an old driver": (
        machine(
            gpu=Answer(replace(GPU, cuda_version=12080, driver_version="570.86")),
            engines=engines(available=False, error="The driver is too old"),
        ),
        Level.PROBLEM,
        "The driver (570.86) is too old for torch",
    ),
    "torch cannot be imported": (
        machine(engines=engines(version=None, cuda=None, available=False, error="ImportError: x")),
        Level.PROBLEM,
        "torch cannot be imported: ImportError: x",
    ),
    "both packages": (
        machine(distributions={"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}),
        Level.PROBLEM,
        "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are both installed",
    ),
    "ONNX Runtime for CPUs beside a card": (
        machine(onnxruntime=Answer(CPU_ONLY)),
        Level.WARNING,
        "OCR runs on the CPU: this package of ONNX Runtime cannot use the GPU",
    ),
    "a library is missing": (
        machine(
            onnxruntime=Answer(replace(ONNX, missing=["libcurand.so.10"], provider=CUDA[1])),
        ),
        Level.PROBLEM,
        "needs libcurand.so.10",
    ),
    "a session falls back": (
        machine(onnxruntime=Answer(replace(ONNX, provider=CUDA[1], error="CUDA failure 100"))),
        Level.PROBLEM,
        "got CPUExecutionProvider: CUDA failure 100",
    ),
    "CUDA 12 beside CUDA 13": (
        machine(onnxruntime=Answer(replace(ONNX, cuda="12.8"))),
        Level.WARNING,
        "built for CUDA 12.8, torch for CUDA 13.2",
    ),
    "ONNX Runtime crashes": (
        machine(onnxruntime=Answer(failure="ended by SIGSEGV")),
        Level.PROBLEM,
        "ONNX Runtime cannot be used: ended by SIGSEGV",
    ),
    "no worker": (
        machine(workers=Answer(failure="ended by exit code 1")),
        Level.PROBLEM,
        "No worker process could be started: ended by exit code 1",
    ),
    "a worker that stays": (
        machine(workers=Answer(replace(WORKERS, ended_after_s=None))),
        Level.PROBLEM,
        "A worker kept running after its server was killed",
    ),
    "a measure that does not hold": (
        machine(workers=Answer(replace(WORKERS, measures={"no_new_privs": "off: not permitted"}))),
        Level.WARNING,
        "measure no_new_privs does not hold: off: not permitted",
    ),
    "a template that is refused": (
        machine(
            workers=Answer(replace(WORKERS, template_unfit="it has 2 threads")),
            mode=Answer(replace(MODE, start_method="forkserver")),
        ),
        Level.WARNING,
        "The fork template is refused: it has 2 threads",
    ),
    "more reserve than any card has": (
        machine(mode=Answer(replace(MODE, vram_reserve_bytes=17 * GIB))),
        Level.WARNING,
        "17.0 GiB of free GPU memory; no card that workers use has as much",
    ),
    "more reserve than is free": (
        machine(gpu=Answer(replace(GPU, cards=[replace(CARD, used_bytes=14 * GIB)]))),
        Level.WARNING,
        "3.0 GiB of free GPU memory; 2.0 GiB are free now",
    ),
    "settings that are refused": (
        machine(settings_error="DOCLING_SERVE_MAX_NUM_PAGES: not a number"),
        Level.PROBLEM,
        "would not start with these settings: DOCLING_SERVE_MAX_NUM_PAGES",
    ),
    "a conversion that cannot be made": (
        machine(engines=Answer(EngineFacts("auto", TORCH, [], "ValueError: no such kind"))),
        Level.PROBLEM,
        "What a conversion would run on is not known: ValueError: no such kind",
    ),
    "a device that is not there": (
        machine(
            engines=Answer(
                EngineFacts("cuda:3", TORCH, [replace(STAGES[1], device="none: no cuda:3")], "")
            )
        ),
        Level.PROBLEM,
        "layout: docling_layout_default on torch fails: no cuda:3",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_at_its_level(name: str) -> None:
    facts, level, text = BAD[name]

    found = [finding for finding in judge(facts) if text in finding.text]

    assert [finding.level for finding in found] == [level]
    assert found[0].advice
    assert exit_status(judge(facts)) == int(bool(said(facts, Level.PROBLEM)))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("torch without CUDA", "torch 2.15.0+cu132 is built without CUDA"),
        ("torch cannot use the card", "CUDA unknown error"),
        ("ONNX Runtime for CPUs beside a card", "has no CUDAExecutionProvider"),
        ("a session falls back", "asked for CUDA got CPUExecutionProvider"),
    ],
)
def test_a_stage_says_why_it_is_not_on_the_gpu(name: str, why: str) -> None:
    (stage,) = [text for text in said(BAD[name][0], Level.WARNING) if text.startswith("OCR:")]

    assert why in stage


def test_a_card_that_was_declined_is_no_problem() -> None:
    declined = replace(engines(available=False, error="no card").facts, asked_device="cpu")  # type: ignore[type-var]
    facts = machine(engines=Answer(declined))

    assert said(facts, Level.PROBLEM) + said(facts, Level.WARNING) == []
    assert any("OCR" in text and "DOCLING_DEVICE=cpu" in text for text in said(facts, Level.OK))


def test_a_missing_library_is_no_problem_without_a_gpu() -> None:
    facts = on_cpu(onnxruntime=Answer(replace(ONNX, missing=["libcurand.so.10"], provider=None)))

    assert said(facts, Level.PROBLEM) == []
    assert any("libcurand.so.10" in text for text in said(facts, Level.WARNING))


def test_cards_are_numbered_as_cuda_counts_them() -> None:
    other = Card(1, "GPU-2", "Faster card", 24 * GIB, 0)
    facts = machine(
        gpu=Answer(
            replace(
                GPU,
                cards=[CARD, other],
                holders=[
                    Holder("GPU-2", 7, GIB, "ollama", False),
                    Holder("GPU-1", 8, None, None, False),
                ],
                cuda_order=["GPU-2", "GPU-1"],
            )
        ),
    )

    cards = [text for text in said(facts, Level.OK) if text.startswith("cuda:")]
    notes = said(facts, Level.NOTE)

    assert [text.partition(",")[0] for text in cards] == [
        "cuda:0: Faster card",
        "cuda:1: Some card",
    ]
    assert any("another order than nvidia-smi" in text for text in notes)
    assert "pid 7 (ollama, not docling-serve) holds 1.0 GiB on cuda:0 (GPU-2)." in notes
    assert any(text.startswith("pid 8 (a process that cannot be seen from here") for text in notes)
