from __future__ import annotations

import pytest

from docling_serve.vram.mode import SubprocessDecision, decide_mode
from docling_serve.vram.nvml import GpuProbe
from tests.helpers.stand_in_nvml import (
    GIB,
    LIBRARY_NOT_FOUND,
    UNKNOWN,
    StandInGpu,
    StandInNvml,
    StandInNvmlError,
)

MIB = 1024**2


def decide(nvml: StandInNvml, visible: str | None = None) -> SubprocessDecision:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return decide_mode("auto", GpuProbe(nvml, environ=environ))


@pytest.mark.parametrize("setting", [True, False])
def test_an_explicit_setting_decides_without_the_driver(setting: bool) -> None:
    nvml = StandInNvml([StandInGpu("GPU-a", 8 * GIB)])

    decision = decide_mode(setting, GpuProbe(nvml, environ={}))

    assert decision.enabled is setting
    assert nvml.readings == 0


def test_deciding_leaves_the_driver_closed() -> None:
    nvml = StandInNvml([StandInGpu("GPU-a", 8 * GIB)])

    assert decide(nvml).enabled
    assert (nvml.inits, nvml.open_count) == (1, 0)


@pytest.mark.parametrize(
    ("total_bytes", "enabled"),
    [
        (6144 * MIB, True),
        (11264 * MIB, True),  # sold as 11 GB
        (12066 * MIB, True),  # sold as 12 GB, less than 12 GiB
        (12 * GIB - 1, True),
        (12 * GIB, True),  # the same; CUDA, which the guide asks, counts less
        (12 * GIB + MIB, False),
        (24564 * MIB, False),
    ],
)
def test_auto_counts_in_gib(total_bytes: int, enabled: bool) -> None:
    decision = decide(StandInNvml([StandInGpu("GPU-a", total_bytes, name="Card")]))

    assert decision.enabled is enabled
    assert f"Card has {total_bytes / GIB:.1f} GiB" in decision.reason


def test_auto_goes_by_the_smallest_visible_gpu() -> None:
    nvml = StandInNvml([StandInGpu("GPU-a", 24 * GIB), StandInGpu("GPU-b", 8 * GIB, name="Small")])

    assert decide(nvml).enabled
    assert "Small" in decide(nvml).reason
    assert not decide(nvml, "GPU-a").enabled


def test_auto_is_off_without_a_gpu() -> None:
    decision = decide(StandInNvml(init=StandInNvmlError(LIBRARY_NOT_FOUND)))

    assert not decision.enabled
    assert "no NVIDIA GPU" in decision.reason


def test_auto_says_when_the_gpus_are_hidden() -> None:
    decision = decide(StandInNvml([StandInGpu("GPU-a", 8 * GIB)]), "-1")

    assert not decision.enabled
    assert "CUDA_VISIBLE_DEVICES=-1" in decision.reason


def test_auto_is_on_when_the_driver_gives_no_figures() -> None:
    decision = decide(StandInNvml(init=StandInNvmlError(UNKNOWN)))

    assert decision.enabled
    assert "Unknown Error" in decision.reason
