from __future__ import annotations

import asyncio

import pytest

from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.sampling import GpuSampler
from tests.helpers.eventually import eventually
from tests.helpers.loops import turns
from tests.helpers.stand_in_nvml import GIB, StandInGpu, StandInNvml
from tests.unit.vram.stepped_time import SteppedTime


class Sampled:
    """A sampler on a stand-in GPU, and what it told its listener."""

    def __init__(self) -> None:
        self.nvml = StandInNvml([StandInGpu("GPU-a", used_bytes=[GIB, 2 * GIB, 3 * GIB])])
        self.time = SteppedTime()
        probe = GpuProbe(self.nvml, environ={})
        self.sampler = GpuSampler(probe, sleep=self.time.sleep, clock=self.time)
        self.heard: list[tuple[float, int]] = []
        self.sampler.subscribe(
            lambda reading, began_at: self.heard.append((began_at, reading.devices[0].used_bytes))
        )


async def test_nothing_is_read_while_nobody_follows() -> None:
    sampled = Sampled()
    await sampled.time.pass_by(10)

    assert sampled.nvml.readings == 0
    assert not sampled.sampler.running


async def test_it_reads_at_once_and_twice_a_second_while_somebody_follows() -> None:
    sampled = Sampled()
    sampled.sampler.follow("one")
    sampled.sampler.follow("two")
    await sampled.time.until(lambda: len(sampled.heard) == 2)
    sampled.sampler.unfollow("one")
    await sampled.time.until(lambda: len(sampled.heard) == 4)
    sampled.sampler.unfollow("two")
    await sampled.time.until(lambda: not sampled.sampler.running)
    await sampled.time.pass_by(10)

    assert sampled.heard == [(0.0, GIB), (0.5, 2 * GIB), (1.0, 3 * GIB), (1.5, 3 * GIB)]
    assert (sampled.nvml.inits, sampled.nvml.open_count) == (1, 1)


async def test_the_driver_is_let_go_when_nobody_needed_a_reading_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("docling_serve.vram.sampling.LET_GO_S", 0.0)
    sampled = Sampled()
    sampled.sampler.follow("one")
    await sampled.time.until(lambda: len(sampled.heard) == 1)
    await turns(20)
    assert sampled.nvml.open_count == 1

    sampled.sampler.unfollow("one")
    await sampled.time.until(lambda: not sampled.sampler.running)
    await asyncio.to_thread(
        eventually, lambda: sampled.nvml.open_count == 0, within_s=60, what="NVML is shut down"
    )


async def test_a_look_is_one_reading() -> None:
    sampled = Sampled()
    sampled.sampler.look_now()
    await sampled.time.until(lambda: not sampled.sampler.running)

    assert sampled.heard == [(0.0, GIB)]


async def test_a_look_cuts_the_pause_of_those_who_follow() -> None:
    sampled = Sampled()
    sampled.sampler.follow("one")
    await sampled.time.until(lambda: len(sampled.heard) == 1)
    sampled.sampler.look_now()
    await sampled.time.until(lambda: len(sampled.heard) == 2)

    assert [when for when, _ in sampled.heard] == [0.0, 0.0]
    sampled.sampler.close()


async def test_it_can_be_used_again_after_it_stopped() -> None:
    sampled = Sampled()
    for _ in range(2):
        sampled.sampler.follow("one")
        sampled.sampler.unfollow("one")
        await sampled.time.until(lambda: not sampled.sampler.running)

    assert len(sampled.heard) == 2


async def test_close_ends_it() -> None:
    sampled = Sampled()
    sampled.sampler.follow("one")
    await sampled.time.until(lambda: len(sampled.heard) == 1)
    sampled.sampler.close()
    await sampled.time.until(lambda: not sampled.sampler.running)
