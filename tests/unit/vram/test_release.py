from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.release import ReleaseWatch
from docling_serve.vram.sampling import GpuSampler
from tests.helpers.loops import run, turns
from tests.helpers.stand_in_nvml import (
    GIB,
    LIBRARY_NOT_FOUND,
    StandInGpu,
    StandInNvml,
    StandInNvmlError,
)
from tests.unit.vram.stepped_time import SteppedTime

WORKER, OTHER = 41, 99


class Watched:
    """A release watch on stand-in GPUs."""

    def __init__(self, *gpus: StandInGpu) -> None:
        self.time = SteppedTime()
        self.nvml = StandInNvml(gpus)
        probe = GpuProbe(self.nvml, environ={})
        self.sampler = GpuSampler(probe, sleep=self.time.sleep, clock=self.time)
        self.watch = ReleaseWatch(
            probe,
            5.0,
            sampler=self.sampler,
            sleep=self.time.sleep,
            clock=self.time,
            max_looks=7,
        )

    async def before(self, pid: int = WORKER, device_uuid: str | None = None) -> None:
        await self.time.drive(self.watch.note_before(pid, device_uuid))

    async def waited_after(self, pid: int = WORKER) -> float:
        began = self.time.now
        await self.time.drive(self.watch.wait_after(pid))
        return self.time.now - began

    async def sampled(self, times: int) -> None:
        target = self.nvml.readings + times
        await self.time.until(lambda: self.nvml.readings >= target or not self.sampler.running)


def test_another_programs_growth_does_not_block_once_the_worker_was_seen() -> None:
    async def main() -> None:
        gpu = StandInGpu("GPU-a")
        watched = Watched(gpu)
        await watched.before()
        gpu.processes = ((WORKER, 2 * GIB),)
        await watched.sampled(2)
        gpu.used_bytes, gpu.processes = 9 * GIB, ((OTHER, 9 * GIB),)

        assert await watched.waited_after() == 0

    run(main())


def test_a_worker_never_seen_is_judged_by_the_gpu() -> None:
    async def main() -> None:
        gpu = StandInGpu("GPU-a", processes=((123456, GIB),))
        watched = Watched(gpu)
        await watched.before()
        await watched.sampled(3)
        gpu.used_bytes = 9 * GIB

        assert await watched.waited_after() == 5.0

    run(main())


def test_looking_ends_when_the_worker_was_seen() -> None:
    async def main() -> None:
        gpu = StandInGpu("GPU-a")
        watched = Watched(gpu)
        await watched.before()
        await watched.sampled(3)
        assert watched.sampler.running
        gpu.processes = ((WORKER, None),)
        await watched.time.until(lambda: not watched.sampler.running)

    run(main())


def test_looking_ends_in_vain_after_a_while() -> None:
    async def main() -> None:
        watched = Watched(StandInGpu("GPU-a"))
        await watched.before()
        await watched.time.until(lambda: not watched.sampler.running)

        assert watched.nvml.readings == 1 + 7

    run(main())


def test_only_the_gpu_of_the_worker_counts_where_it_is_known() -> None:
    async def main() -> None:
        ours, others = StandInGpu("GPU-a"), StandInGpu("GPU-b")
        watched = Watched(ours, others)
        await watched.before(device_uuid="GPU-a")
        others.used_bytes = 9 * GIB

        assert await watched.waited_after() == 0

    run(main())


def test_a_worker_that_ends_while_it_is_noted_leaves_nothing_behind() -> None:
    async def main() -> None:
        entered, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            entered.set()
            assert go_on.wait(timeout=60)

        watched = Watched(StandInGpu("GPU-a"))
        watched.nvml.on_init = hold
        noting = asyncio.create_task(watched.watch.note_before(WORKER))
        while not entered.is_set():
            await turns(1)
        await watched.watch.wait_after(WORKER)
        go_on.set()
        await noting
        assert not watched.sampler.running
        assert await watched.waited_after() == 0

    run(main())


def test_a_worker_that_loaded_nothing_is_looked_for_no_more() -> None:
    async def main() -> None:
        watched = Watched(StandInGpu("GPU-a"))
        await watched.before()
        assert watched.sampler.running
        watched.watch.forget(WORKER)
        watched.watch.forget(WORKER)
        await watched.sampled(99)
        assert not watched.sampler.running
        assert await watched.waited_after() == 0

    run(main())


def test_without_a_gpu_nothing_is_followed() -> None:
    async def main() -> None:
        watched = Watched()
        watched.nvml.init = StandInNvmlError(LIBRARY_NOT_FOUND)
        await watched.before()

        assert not watched.sampler.running
        assert await watched.waited_after() == 0

    run(main())


def test_memory_that_stays_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        gpu = StandInGpu("GPU-a")
        watched = Watched(gpu)
        await watched.before()
        gpu.used_bytes = GIB
        await watched.waited_after()

    with caplog.at_level(logging.WARNING, logger="docling_serve"):
        run(main())
    assert "worker pid 41: GPU memory is not back" in caplog.text
