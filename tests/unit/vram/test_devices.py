from __future__ import annotations

import pytest

from docling_serve.vram.devices import parse_devices, resolve_devices
from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.readings import GpuReading
from tests.helpers.stand_in_nvml import UNKNOWN, StandInGpu, StandInNvml, StandInNvmlError


def read(visible: str | None = None) -> GpuReading:
    nvml = StandInNvml(
        [
            StandInGpu("GPU-aa1"),
            StandInGpu("GPU-aa2", used_bytes=StandInNvmlError(UNKNOWN)),
            StandInGpu("GPU-bb", opens=False),
            StandInGpu("GPU-cc"),
        ]
    )
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return GpuProbe(nvml, environ=environ).read()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("cuda:0,cuda:1", (0, 1)),
        (" CUDA:1 , 0,", (1, 0)),
        ("cuda", (0,)),
        ("cuda:1,1", (1,)),
        ("GPU-aa,MIG-1/2", ("GPU-aa", "MIG-1/2")),
    ],
)
def test_names_are_read(text: str, names: tuple[int | str, ...]) -> None:
    assert parse_devices(text) == names


@pytest.mark.parametrize("text", ["cpu", "cuda:", "cuda:x", "cuda:-1", "cuda:0;cuda:1", "mps"])
def test_what_is_no_device_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a device"):
        parse_devices(text)


def test_positions_count_unreadable_gpus_too() -> None:
    assert resolve_devices([3, 1], read()) == (("GPU-cc", "GPU-aa2"), ())


def test_the_order_of_cuda_visible_devices_counts() -> None:
    assert resolve_devices([0, 1], read("3,0")) == (("GPU-cc", "GPU-aa1"), ())


def test_without_names_it_is_the_first_visible_gpu() -> None:
    assert resolve_devices([], read("3,0")) == (("GPU-cc",), ())


def test_uuids_may_be_abbreviated() -> None:
    assert resolve_devices(["gpu-c", "GPU-aa1"], read()) == (("GPU-cc", "GPU-aa1"), ())


def test_two_names_of_one_gpu_are_one() -> None:
    assert resolve_devices([3, "GPU-cc"], read()) == (("GPU-cc",), ())


def test_names_that_mean_no_visible_gpu_are_told() -> None:
    found, unknown = resolve_devices([0, 1, 2, "GPU-aa", "GPU-aa1"], read("3,2"))

    assert found == ("GPU-cc",)
    assert unknown == ("cuda:1", "cuda:2", "GPU-aa", "GPU-aa1")
