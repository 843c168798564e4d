"""One grant: what the GPU held before is noted once, and waited for after the exit."""

from __future__ import annotations

from docling_serve.vram.admission import VramAdmission
from docling_serve.vram.grants import VramGrant
from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.release import ReleaseTracker
from docling_serve.vram.sampling import GpuSampler
from tests.helpers.loops import turns
from tests.helpers.stand_in_nvml import GIB, StandInGpu, StandInNvml
from tests.unit.vram.stepped_time import SteppedTime

WORKER = 41


class Bench:
    """An admission that waits for memory to return, on a stand-in GPU in stepped time."""

    def __init__(self, gpu: StandInGpu) -> None:
        self.time = SteppedTime()
        probe = GpuProbe(StandInNvml((gpu,)), environ={})
        self.sampler = GpuSampler(probe, sleep=self.time.sleep, clock=self.time)
        timing = {"sleep": self.time.sleep, "clock": self.time, "sampler": self.sampler}
        releases = ReleaseTracker(probe, 5.0, **timing)  # type: ignore[arg-type]
        self.vram = VramAdmission(probe, releases=releases, **timing)  # type: ignore[arg-type]

    async def started(self) -> VramGrant:
        grant = await self.time.drive(self.vram.admit("ocr"))
        grant.started("ocr", WORKER)
        await self.time.pass_by(1)
        return grant

    async def released_after(self, grant: VramGrant) -> float:
        began = self.time.now
        await self.time.drive(grant.released())
        return self.time.now - began

    async def close(self) -> None:
        self.vram.close()
        self.sampler.close()
        await turns(20)


async def test_it_waits_until_the_memory_is_as_it_was_before() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=GIB)
    bench = Bench(gpu)
    grant = await bench.started()
    gpu.used_bytes = 4 * GIB
    grant.loaded()
    grant.finished(completed=True)

    assert await bench.released_after(grant) == 5.0  # the bound: it never came back
    assert grant.use.now_bytes is None
    await bench.close()


async def test_it_waits_for_nothing_when_the_memory_is_back() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=GIB)
    bench = Bench(gpu)
    grant = await bench.started()

    assert await bench.released_after(grant) == 0
    await bench.close()


async def test_what_a_later_job_found_is_not_what_was_there_before() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=GIB)
    bench = Bench(gpu)
    grant = await bench.started()
    gpu.used_bytes = 4 * GIB
    grant.loaded()
    grant.finished(completed=True)
    grant.started("ocr", WORKER)
    await bench.time.pass_by(1)

    assert await bench.released_after(grant) == 5.0
    await bench.close()


async def test_given_back_at_once_it_leaves_no_reading_behind() -> None:
    bench = Bench(StandInGpu("GPU-a"))
    grant = await bench.started()
    grant.give_back()
    grant.give_back()
    await bench.time.until(lambda: not bench.sampler.running)

    assert await bench.released_after(grant) == 0
    await bench.close()
