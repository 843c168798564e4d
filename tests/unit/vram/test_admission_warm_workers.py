"""Admission of jobs to workers that hold models."""

from __future__ import annotations

from docling_serve.subprocess_worker.pool.admission import Grant
from tests.helpers.stand_in_neighbours import (
    StandInNeighbour,
    stand_in_ollama,
)
from tests.helpers.stand_in_nvml import (
    GIB,
    UNKNOWN,
    StandInGpu,
    StandInNvmlError,
)
from tests.unit.vram.admission_play import PID, Pool
from tests.unit.vram.neighbour_settings import Settings


async def warm(pool: Pool, gpu: StandInGpu, taken: int) -> Grant:
    grant = await pool.admit("ocr")
    gpu.used_bytes, gpu.processes = taken, ((PID, taken),)
    await pool.loads(grant, "ocr")
    await pool.finishes(grant)
    return grant


async def test_a_warm_worker_may_run_its_own_kind_without_a_question() -> None:
    gpu = StandInGpu("GPU-a")

    async with Pool(gpu) as pool:
        grant = await warm(pool, gpu, 3 * GIB)
        gpu.used_bytes = 24 * GIB
        readings = pool.nvml.readings
        assert await grant.extend("ocr")
        assert pool.nvml.readings == readings


async def test_a_warm_worker_takes_another_kind_only_into_free_memory() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=8 * GIB)

    async with Pool(gpu) as pool:
        grant = await warm(pool, gpu, 3 * GIB)
        gpu.used_bytes = 6 * GIB  # a neighbour came
        assert not await pool.time.drive(grant.extend("vlm"))
        gpu.used_bytes = 3 * GIB
        assert await pool.time.drive(grant.extend("vlm"))
        grant.loaded()
        assert not await pool.time.drive(grant.extend("third")), "5 free, 3 promised"


async def test_a_warm_worker_loads_another_kind_in_its_turn() -> None:
    gpu = StandInGpu("GPU-a")

    async with Pool(gpu) as pool:
        grant = await warm(pool, gpu, 3 * GIB)
        starting = await pool.admit("ocr")
        assert not await pool.time.drive(grant.extend("vlm"))
        starting.loaded()
        assert await pool.time.drive(grant.extend("vlm"))
        await pool.wait_for_it("ocr")
        assert "another worker is loading" in pool.heard[-1].reason


async def test_a_warm_worker_leaves_the_memory_to_those_who_wait() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=8 * GIB)

    async with Pool(gpu) as pool:
        await pool.one_job(gpu, 7 * GIB, "large")
        grant = await warm(pool, gpu, 3 * GIB)
        await pool.wait_for_it("large")
        assert not await pool.time.drive(grant.extend("vlm")), "though 5 are free"


async def test_a_warm_worker_takes_a_kind_that_was_seen_to_need_no_gpu_on_a_fuller_one() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=8 * GIB)

    async with Pool(gpu) as pool:
        await pool.one_job(gpu, 0, "text")
        grant = await warm(pool, gpu, 7 * GIB)
        assert not await pool.time.drive(grant.extend("vlm"))
        assert await pool.time.drive(grant.extend("text"))


async def test_a_warm_worker_goes_on_when_the_driver_falls_silent() -> None:
    gpu = StandInGpu("GPU-a")

    async with Pool(gpu) as pool:
        grant = await warm(pool, gpu, 3 * GIB)
        pool.nvml.init = StandInNvmlError(UNKNOWN)
        assert await pool.time.drive(grant.extend("vlm"))


async def test_an_idle_worker_of_ours_is_to_go_for_one_that_waits() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=6 * GIB)
    with stand_in_ollama(StandInNeighbour(["llama3:latest"])) as ollama:
        async with Pool(gpu, neighbours=Settings(ollama.url)) as pool:
            idle = await warm(pool, gpu, 4 * GIB)
            waiting = await pool.wait_for_it("vlm", for_s=30)
            assert pool.heard[-1].for_own_workers
            assert "workers of this server hold the rest" in pool.heard[-1].reason
            assert ollama.calls == [], "ours goes before a neighbour"
            assert not await pool.time.drive(idle.extend("third"))
            gpu.used_bytes, gpu.processes = 0, ()
            idle.give_back()
            await pool.time.until(waiting.done)
