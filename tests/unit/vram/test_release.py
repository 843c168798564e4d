from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.release import ReleaseTracker
from docling_serve.vram.sampling import GpuSampler
from tests.helpers.loops import turns
from tests.helpers.stand_in_nvml import (
    GIB,
    LIBRARY_NOT_FOUND,
    StandInGpu,
    StandInNvml,
    StandInNvmlError,
)
from tests.unit.vram.stepped_time import SteppedTime

WORKER, OTHER = 41, 99


class Bench:
    """A tracker on stand-in GPUs."""

    def __init__(self, *gpus: StandInGpu) -> None:
        self.time = SteppedTime()
        self.nvml = StandInNvml(gpus)
        probe = self.probe = GpuProbe(self.nvml, environ={}, cache_s=0)
        self.sampler = GpuSampler(probe, sleep=self.time.sleep, clock=self.time)
        self.tracker = ReleaseTracker(
            probe,
            5.0,
            sampler=self.sampler,
            sleep=self.time.sleep,
            clock=self.time,
            max_looks=7,
        )

    async def before(self, pid: int = WORKER, device_uuid: str | None = None) -> None:
        await self.time.drive(self.tracker.note_before(pid, device_uuid))

    async def waited_after(self, pid: int = WORKER) -> float:
        began = self.time.now
        await self.time.drive(self.tracker.wait_after(pid))
        return self.time.now - began

    async def sampled(self, times: int) -> None:
        target = self.nvml.readings + times
        await self.time.until(lambda: self.nvml.readings >= target or not self.sampler.running)


async def test_another_programs_growth_does_not_block_once_the_worker_was_seen() -> None:
    gpu = StandInGpu("GPU-a")
    bench = Bench(gpu)
    await bench.before()
    gpu.processes = ((WORKER, 2 * GIB),)
    await bench.sampled(2)
    gpu.used_bytes, gpu.processes = 9 * GIB, ((OTHER, 9 * GIB),)

    assert await bench.waited_after() == 0


async def test_a_worker_never_seen_is_judged_by_the_gpu() -> None:
    gpu = StandInGpu("GPU-a", processes=((123456, GIB),))
    bench = Bench(gpu)
    await bench.before()
    await bench.sampled(3)
    gpu.used_bytes = 9 * GIB

    assert await bench.waited_after() == 5.0


async def test_looking_ends_when_the_worker_was_seen() -> None:
    gpu = StandInGpu("GPU-a")
    bench = Bench(gpu)
    await bench.before()
    await bench.sampled(3)
    assert bench.sampler.running
    gpu.processes = ((WORKER, None),)
    await bench.time.until(lambda: not bench.sampler.running)


async def test_looking_ends_in_vain_after_a_while() -> None:
    bench = Bench(StandInGpu("GPU-a"))
    await bench.before()
    await bench.time.until(lambda: not bench.sampler.running)

    assert bench.nvml.readings == 1 + 7


async def test_only_the_gpu_of_the_worker_counts_where_it_is_known() -> None:
    ours, others = StandInGpu("GPU-a"), StandInGpu("GPU-b")
    bench = Bench(ours, others)
    await bench.before(device_uuid="GPU-a")
    others.used_bytes = 9 * GIB

    assert await bench.waited_after() == 0


async def test_a_worker_that_ends_while_it_is_noted_leaves_nothing_behind() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        assert go_on.wait(timeout=60)

    bench = Bench(StandInGpu("GPU-a"))
    bench.nvml.on_init = hold
    noting = asyncio.create_task(bench.tracker.note_before(WORKER))
    while not entered.is_set():
        await turns(1)
    await bench.tracker.wait_after(WORKER)
    go_on.set()
    await noting
    assert not bench.sampler.running
    assert await bench.waited_after() == 0


async def test_a_worker_that_loaded_nothing_is_looked_for_no_more() -> None:
    bench = Bench(StandInGpu("GPU-a"))
    await bench.before()
    assert bench.sampler.running
    bench.tracker.forget(WORKER)
    bench.tracker.forget(WORKER)
    await bench.sampled(99)
    assert not bench.sampler.running
    assert await bench.waited_after() == 0


async def test_without_a_gpu_nothing_is_followed() -> None:
    bench = Bench()
    bench.nvml.init = StandInNvmlError(LIBRARY_NOT_FOUND)
    await bench.before()

    assert not bench.sampler.running
    assert await bench.waited_after() == 0


async def test_memory_that_stays_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="docling_serve"):
        gpu = StandInGpu("GPU-a")
        bench = Bench(gpu)
        await bench.before()
        gpu.used_bytes = GIB
        await bench.waited_after()
    assert "worker pid 41: GPU memory is not free yet" in caplog.text


async def test_a_process_listed_before_its_job_is_another_one_with_the_same_number() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=GIB, processes=((WORKER, GIB),))
    bench = Bench(gpu)
    await bench.before()
    gpu.used_bytes = 3 * GIB
    await bench.sampled(2)
    assert bench.sampler.with_our_processes(bench.probe.read()).processes == {}

    gpu.used_bytes = GIB  # the worker gave its memory back; the other one goes on
    assert await bench.waited_after() == 0


async def test_what_a_worker_took_at_the_last_is_read_before_it_is_asked_to_end() -> None:
    gpu = StandInGpu("GPU-a")
    bench = Bench(gpu)
    seen: list[int] = []
    bench.sampler.subscribe(lambda reading, _: seen.append(reading.devices[0].used_bytes))
    await bench.before()
    await bench.sampled(1)

    gpu.used_bytes = 7 * GIB
    await bench.time.drive(bench.tracker.look_before_end(WORKER))
    assert seen[-1] == 7 * GIB

    readings = bench.nvml.readings
    await bench.tracker.look_before_end(OTHER)
    assert bench.nvml.readings == readings, "one that is not watched holds nothing"
