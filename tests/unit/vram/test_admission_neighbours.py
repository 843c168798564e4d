"""Admission beside neighbours that hold memory."""

from __future__ import annotations

from docling_serve.vram.eviction import SETTLE_S
from tests.helpers.stand_in_neighbours import (
    StandInNeighbour,
    stand_in_llama_swap,
    stand_in_ollama,
)
from tests.helpers.stand_in_nvml import (
    GIB,
    StandInGpu,
)
from tests.unit.vram.admission_play import Pool
from tests.unit.vram.neighbour_settings import Settings


async def test_a_neighbour_is_left_alone_while_there_is_room() -> None:
    with stand_in_ollama(StandInNeighbour(["llama3:latest"])) as ollama:
        gpu = StandInGpu("GPU-a", used_bytes=20 * GIB)

        async with Pool(gpu, neighbours=Settings(ollama.url)) as pool:
            await pool.admit()
            assert ollama.calls == []


async def test_a_neighbour_that_frees_late_is_waited_for_by_what_the_driver_says() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=22 * GIB)
    with stand_in_ollama(StandInNeighbour(["llama3:latest"])) as ollama:
        async with Pool(gpu, neighbours=Settings(ollama.url)) as pool:

            def free() -> None:
                gpu.used_bytes = GIB

            ollama.on_unload = lambda: pool.time.after(5.0, free)
            grant = await pool.admit()

            assert grant.device_uuid == "GPU-a"
            assert ollama.calls.count("POST /api/generate llama3:latest") == 1
            counters = pool.vram.counters
            assert 5.0 <= counters.wait_seconds == pool.time.now <= 5.25
            await pool.time.until(lambda: counters.evictions == 1)
            assert (counters.waits, counters.overcommitted) == (1, 0)
            assert "neighbours are asked to unload" in pool.heard[0].reason


async def test_a_neighbour_that_reloads_at_once_is_asked_again() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=22 * GIB)
    with stand_in_llama_swap(StandInNeighbour(["coder"])) as swap:
        neighbours = Settings(unload_llama_swap_base_url=swap.url)

        async with Pool(gpu, neighbours=neighbours) as pool:

            def unloaded() -> None:
                if pool.vram.counters.evictions == 0:
                    pool.time.after(1.0, lambda: swap.models.append("coder"))
                else:
                    gpu.used_bytes = 0

            swap.on_unload = unloaded
            await pool.admit()
            await pool.time.until(lambda: pool.vram.counters.evictions == 2)

            assert swap.calls.count("GET /unload") == 2
            assert pool.vram.counters.waits == 1


async def test_a_neighbour_that_never_frees_keeps_the_job_waiting_and_the_reason_shown() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=int(21.5 * GIB))
    with stand_in_ollama(StandInNeighbour(["llama3:latest"], keeps=True)) as ollama:
        neighbours = Settings(ollama.url, unload_external_model_timeout=5)

        async with Pool(gpu, neighbours=neighbours) as pool:
            waiting = await pool.wait_for_it(for_s=60)
            asked = ollama.calls.count("POST /api/generate llama3:latest")
            assert asked == 3, "again, but ever less often"
            assert pool.vram.counters.evictions == 0
            assert pool.heard[-1].reason.startswith(
                "3.0 GiB of GPU memory needed (subprocess_vram_reserve, until a task of this kind"
                " has run), "
                "2.5 GiB available on Stand-in GPU (GPU-a); "
            )
            assert not pool.heard[-1].for_own_workers
            waiting.cancel()
            await pool.time.until(waiting.done)
            readings = pool.nvml.readings
            await pool.time.pass_by(10)
            assert pool.nvml.readings <= readings + 1, "nobody waits, so nothing is read"
            assert pool.vram.counters.wait_seconds >= 60
            gpu.used_bytes = 0
            assert (await pool.admit(within_s=1)).device_uuid == "GPU-a"


async def test_each_wait_asks_anew() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=22 * GIB)
    with stand_in_ollama(StandInNeighbour(["llama3:latest"])) as ollama:
        async with Pool(gpu, neighbours=Settings(ollama.url)) as pool:

            def free() -> None:
                gpu.used_bytes = 0

            ollama.on_unload = free
            for rounds in (1, 2):
                grant = await pool.admit()
                await pool.time.until(lambda: pool.vram.counters.evictions == rounds)  # noqa: B023
                grant.give_back()
                gpu.used_bytes, ollama.models = 22 * GIB, ["llama3:latest"]
            assert pool.time.now < SETTLE_S, "though neighbours are not asked twice in a wait"


async def test_a_neighbour_that_returned_during_a_job_unloads_before_the_retry() -> None:
    gpu = StandInGpu("GPU-a")
    with stand_in_ollama(StandInNeighbour(["llama3:latest"])) as ollama:
        async with Pool(gpu, neighbours=Settings(ollama.url)) as pool:
            grant = await pool.admit()
            grant.out_of_memory()  # while the driver calls the whole card free
            grant.give_back()
            await pool.admit()

            assert ollama.calls.count("POST /api/generate llama3:latest") == 1
            assert pool.heard[0].reason == (
                "a task ran out of GPU memory; neighbours are asked to unload"
            )


async def test_a_neighbour_that_cannot_be_asked_stops_nobody_for_whom_there_is_room() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=22 * GIB)
    with stand_in_ollama(StandInNeighbour(["llama3:latest"], errors=1000)) as ollama:
        async with Pool(gpu, neighbours=Settings(ollama.url)) as pool:
            waiting = await pool.wait_for_it(for_s=5)
            gpu.used_bytes = 0
            await pool.time.until(waiting.done)
            assert waiting.result().device_uuid == "GPU-a"
            assert pool.vram.counters.evictions == 0
