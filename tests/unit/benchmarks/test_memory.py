"""Memory of a process tree, and what the driver says of its GPUs (a stand-in for the driver)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.memory import MemoryMeter, devices
from docling_serve.vram.nvml import GpuProbe
from tests.helpers.stand_in_nvml import GIB, StandInGpu, StandInNvml

STRANGER = 4_000_000


def a_probe(*gpus: StandInGpu) -> GpuProbe:
    return GpuProbe(StandInNvml(list(gpus)), environ={})


def test_a_tree_is_its_processes_together() -> None:
    large = "x = b'1' * 60_000_000; print('there', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", large], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        use = MemoryMeter(os.getpid(), a_probe()).take()
        process.communicate(b"\n")

    assert use.total - use.gateway > 60
    assert (use.gpu_server, use.gpu_devices) == (None, ())


def test_a_page_that_two_processes_share_counts_once() -> None:
    """The child's pages are its parent's own until one of them writes."""
    forked = (
        "import os; x = b'1' * 60_000_000; ours, theirs = os.pipe();"
        "child = os.fork();"
        "(os.close(theirs), os.read(ours, 1)) if child == 0 else"
        " (os.close(ours), print('there', flush=True), input(), os.close(theirs), os.wait())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", forked], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        meter = MemoryMeter(process.pid, a_probe())
        resident, proportional = meter.take().total, meter.proportional()
        process.communicate(b"\n")

    assert proportional is not None
    assert proportional < resident - 60


def test_gpu_memory_is_by_process_and_by_device() -> None:
    gpu = StandInGpu("GPU-0", used_bytes=3 * GIB, processes=((os.getpid(), GIB), (STRANGER, GIB)))

    use = MemoryMeter(os.getpid(), a_probe(gpu)).take()

    assert use.gpu_server == pytest.approx(GIB / 1e6)
    assert use.gpu_devices == pytest.approx((3 * GIB / 1e6,))


def test_a_driver_that_lists_other_numbers_tells_nothing_of_us() -> None:
    gpu = StandInGpu("GPU-0", used_bytes=GIB, processes=((STRANGER, GIB),))

    assert MemoryMeter(os.getpid(), a_probe(gpu)).take().gpu_server is None


def test_the_report_names_the_devices() -> None:
    assert devices(a_probe(StandInGpu("GPU-0", name="Stand-in 9000"))) == ["Stand-in 9000"]
    assert devices(a_probe()) == []
