"""What makes a fork template unfit, seen through the real torch on a fake driver."""

from __future__ import annotations

import json

import pytest

from tests.helpers.fake_gpu import FakeCard, FakeDriver, FakeGpu

_FORKED_CHILD_LOOKS = """
import json, os
from dataclasses import asdict
from pathlib import Path
import torch
{before}
from docling_serve.subprocess_worker.child.template import examine
mapped = "libcuda.so" in Path("/proc/self/maps").read_text()
if os.fork() == 0:
    print(json.dumps({{"mapped": mapped, **asdict(examine())}}), flush=True)
    os._exit(0)
os.wait()
"""


def _seen_by_child(gpu: FakeGpu, before: str = "") -> dict[str, object]:
    seen: dict[str, object] = json.loads(gpu.python(_FORKED_CHILD_LOOKS.format(before=before)))
    return seen


def test_a_template_that_has_imported_torch_is_fit_where_a_driver_is_installed(
    fake_gpu: FakeGpu,
) -> None:
    """cuBLAS opens libcuda while torch is imported, and calls nothing in it."""
    fake_gpu.play(FakeDriver(cards=(FakeCard(0),), cuda_order=(0,)))

    seen = _seen_by_child(fake_gpu)

    assert seen["mapped"]
    assert not seen["cuda"]
    assert not fake_gpu.calls("cuInit")


def test_asking_nvml_through_torch_leaves_a_template_fit(fake_gpu: FakeGpu) -> None:
    fake_gpu.play(FakeDriver(cards=(FakeCard(0),), cuda_order=(0,)))

    seen = _seen_by_child(fake_gpu, "torch.cuda.device_count()")

    assert not seen["cuda"]
    assert not fake_gpu.calls("cuInit")


@pytest.mark.parametrize("devices", [(), (0,)], ids=["no device", "a device"])
def test_a_template_in_which_torch_asked_for_cuda_is_unfit(
    fake_gpu: FakeGpu, devices: tuple[int, ...]
) -> None:
    fake_gpu.play(FakeDriver(cards=(FakeCard(0),), cuda_order=devices))

    seen = _seen_by_child(fake_gpu, "torch.cuda.is_available()")

    assert seen["cuda"]
    assert fake_gpu.calls("cuInit")
