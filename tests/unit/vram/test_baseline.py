from __future__ import annotations

import threading
from collections.abc import Collection

from docling_serve.vram.baseline import MemoryBaseline, ReleaseReport, wait_until_released
from docling_serve.vram.nvml import GpuProbe
from tests.helpers.stand_in_nvml import (
    GIB,
    LIBRARY_NOT_FOUND,
    NO_PERMISSION,
    UNKNOWN,
    StandInGpu,
    StandInNvml,
    StandInNvmlError,
)

MIB = 1024**2
WORKER, OTHER = 41, 99


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


async def wait(
    nvml: StandInNvml,
    *,
    seen_pids: Collection[int] = (),
    timeout_s: float = 2.0,
    time: Time | None = None,
) -> ReleaseReport:
    """Take the baseline as the first reading, then wait from the second on."""
    probe = GpuProbe(nvml, environ={})
    time = time or Time()
    return await wait_until_released(
        probe,
        MemoryBaseline.take(probe),
        timeout_s,
        20 * MIB,
        seen_pids=seen_pids,
        sleep=time.sleep,
        clock=time,
    )


async def test_waits_until_memory_is_back_at_the_baseline() -> None:
    used = [500 * MIB, 3 * GIB, 2 * GIB, 519 * MIB]
    time = Time()

    report = await wait(StandInNvml([StandInGpu("GPU-a", used_bytes=used)]), time=time)

    assert report.released is True
    assert time.slept == [0.25, 0.25]
    assert report.waited_s == 0.5
    assert [(d.uuid, d.baseline_bytes, d.used_bytes, d.released) for d in report.devices] == [
        ("GPU-a", 500 * MIB, 519 * MIB, True)
    ]


async def test_compares_with_the_baseline_and_never_with_zero() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=[6 * GIB, 6 * GIB])

    assert (await wait(StandInNvml([gpu]))).released is True


async def test_memory_that_stays_is_reported_when_the_time_is_over() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=[0, GIB])
    time = Time()

    report = await wait(StandInNvml([gpu]), timeout_s=0.6, time=time)

    assert report.released is False
    assert time.slept[:2] == [0.25, 0.25]
    assert report.waited_s == 0.6
    assert "GPU-a has 1024 MiB in use, 0 MiB before" in report.reason


async def test_another_programs_growth_does_not_block_when_pids_are_known() -> None:
    gpu = StandInGpu(
        "GPU-a",
        used_bytes=[0, 9 * GIB, 8 * GIB],
        processes=[(), ((WORKER, 2 * GIB), (OTHER, 7 * GIB)), ((OTHER, 8 * GIB),)],
    )

    report = await wait(StandInNvml([gpu]), seen_pids={WORKER})

    assert report.released is True
    assert report.waited_s == 0.25


async def test_a_worker_that_is_still_listed_holds_its_memory() -> None:
    # Another program freed as much as the worker took: the device alone would look released.
    gpu = StandInGpu("GPU-a", used_bytes=[4 * GIB, GIB], processes=[(), ((WORKER, None),)])

    assert (await wait(StandInNvml([gpu]), seen_pids={WORKER})).released is False


async def test_pids_that_were_never_seen_prove_nothing() -> None:
    # Inside a container: the list has the host's numbers.
    gpu = StandInGpu("GPU-a", used_bytes=[0, GIB], processes=[(), ((123456, GIB),)])

    assert (await wait(StandInNvml([gpu]), seen_pids=())).released is False


async def test_without_a_process_list_the_device_decides() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=[0, GIB, 0], processes=StandInNvmlError(NO_PERMISSION))

    report = await wait(StandInNvml([gpu]), seen_pids={WORKER})

    assert report.released is True
    assert report.waited_s == 0.25


async def test_every_gpu_has_to_be_back() -> None:
    first = StandInGpu("GPU-a", used_bytes=[0, 0])
    second = StandInGpu("GPU-b", used_bytes=[0, GIB])

    report = await wait(StandInNvml([first, second]))

    assert report.released is False
    assert [device.released for device in report.devices] == [True, False]
    assert "GPU-a" not in report.reason


async def test_a_driver_that_stops_answering_ends_the_wait_at_once() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=[0, GIB])
    time = Time()

    report = await wait(StandInNvml([gpu], init=[None, StandInNvmlError(UNKNOWN)]), time=time)

    assert report.released is None
    assert time.slept == []
    assert report.devices[0].used_bytes is None
    assert "Unknown Error" in report.reason


async def test_a_gpu_that_cannot_be_read_leaves_the_answer_open() -> None:
    lost = StandInGpu("GPU-a", used_bytes=[0, StandInNvmlError(UNKNOWN)])
    fine = StandInGpu("GPU-b", used_bytes=[0, GIB, 0])

    report = await wait(StandInNvml([lost, fine]))

    assert report.released is None
    assert report.waited_s == 0.25, "the readable one is still waited for"
    assert "GPU-a: Unknown Error" in report.reason


async def test_without_a_gpu_there_is_nothing_to_wait_for() -> None:
    time = Time()

    report = await wait(StandInNvml(init=StandInNvmlError(LIBRARY_NOT_FOUND)), time=time)

    assert report.released is None
    assert report.devices == ()
    assert time.slept == []


async def test_without_figures_at_the_start_nothing_is_claimed() -> None:
    nvml = StandInNvml([StandInGpu("GPU-a")], init=[StandInNvmlError(UNKNOWN), None])

    report = await wait(nvml)

    assert report.released is None
    assert "no baseline" in report.reason


async def test_a_driver_call_that_hangs_does_not_hang_the_wait() -> None:
    go_on = threading.Event()
    nvml = StandInNvml([StandInGpu("GPU-a")])
    probe = GpuProbe(nvml, environ={})
    baseline = MemoryBaseline.take(probe)

    def hang() -> None:
        assert go_on.wait(timeout=60)

    nvml.on_init = hang
    try:
        report = await wait_until_released(probe, baseline, 5.0, read_limit_s=0.001)
    finally:
        go_on.set()

    assert report.released is None
    assert "does not answer" in report.reason
