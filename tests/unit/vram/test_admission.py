"""Whether a job may start, and on which GPU."""

from __future__ import annotations

import asyncio
import logging

import pytest

from docling_serve.subprocess_worker.pool.admission import Admission, Grant, Waiting
from docling_serve.vram.admission import UNKNOWN_GRACE_S, VramAdmission
from docling_serve.vram.nvml import GpuProbe
from tests.helpers.loops import turns
from tests.helpers.stand_in_neighbours import (
    StandInNeighbour,
    stand_in_ollama,
)
from tests.helpers.stand_in_nvml import (
    GIB,
    LIBRARY_NOT_FOUND,
    UNKNOWN,
    StandInGpu,
    StandInNvml,
    StandInNvmlError,
)
from tests.unit.vram.admission_play import PID, RESERVE, Pool
from tests.unit.vram.neighbour_settings import Settings

# ---- enough memory, or no figures ----------------------------------------------------------------


def test_it_is_what_the_pool_asks_for() -> None:
    admission: Admission = VramAdmission(GpuProbe(StandInNvml(), environ={}))

    assert admission.counters.grants == 0


async def test_with_enough_free_memory_a_job_starts_at_once_on_its_gpu() -> None:
    async with Pool(StandInGpu("GPU-a")) as pool:
        grant = await pool.admit(within_s=0)

        assert (grant.kind, grant.device_uuid, grant.booked_bytes) == ("ocr", "GPU-a", RESERVE)
        assert pool.nvml.readings == 1
        assert pool.heard == []
        assert (pool.vram.counters.grants, pool.vram.counters.waits) == (1, 0)
        assert pool.nvml.open_count == 1


async def test_without_a_gpu_every_job_starts_at_once_and_nothing_is_measured() -> None:
    async with Pool() as pool:
        pool.nvml.init = StandInNvmlError(LIBRARY_NOT_FOUND)
        grant = await pool.admit(within_s=0)
        grant.started("ocr", PID)
        assert await grant.extend("vlm")
        grant.out_of_memory()
        grant.finished(completed=False)
        grant.give_back()
        await pool.time.pass_by(10)

        assert (grant.device_uuid, grant.booked_bytes) == (None, 0)
        assert grant.use.now_bytes is None
        assert pool.nvml.readings == 1


async def test_one_after_the_other_without_a_pause_all_start() -> None:
    async with Pool() as pool:
        pool.nvml.init = StandInNvmlError(LIBRARY_NOT_FOUND)
        for _ in range(20):
            await pool.vram.admit("ocr")
        assert pool.vram.counters.grants == 20


async def test_an_unknown_driver_is_said_once_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Pool(StandInGpu("GPU-a", used_bytes=24 * GIB)) as pool:
        pool.nvml.init = StandInNvmlError(UNKNOWN)
        with caplog.at_level(logging.WARNING, logger="docling_serve"):
            grants = [await pool.admit(within_s=0) for _ in range(3)]

        assert [grant.device_uuid for grant in grants] == [None] * 3
        [record] = caplog.records
        assert "free GPU memory is not known" in record.getMessage()
        assert "Unknown Error" in record.getMessage()


async def test_a_driver_that_falls_silent_is_waited_for_a_moment() -> None:
    async with Pool(StandInGpu("GPU-a", used_bytes=23 * GIB)) as pool:
        waiting = await pool.wait_for_it()
        pool.nvml.init = StandInNvmlError(UNKNOWN)
        await pool.time.pass_by(UNKNOWN_GRACE_S / 2)
        assert not waiting.done()
        assert pool.heard[-1] == Waiting("no GPU figures: the NVIDIA driver reports: Unknown Error")
        await pool.time.until(waiting.done, within_s=UNKNOWN_GRACE_S)

        assert waiting.result().device_uuid is None


async def test_without_figures_neighbours_are_asked_first() -> None:
    with stand_in_ollama(StandInNeighbour(["llama3:latest"])) as ollama:
        async with Pool(neighbours=Settings(ollama.url)) as pool:
            pool.nvml.init = StandInNvmlError(LIBRARY_NOT_FOUND)
            await pool.admit()
            assert ollama.models == []
            assert pool.vram.counters.evictions == 1
            assert pool.heard[0] == Waiting("neighbours on the GPU are asked to unload")


# ---- several workers -----------------------------------------------------------------------------


async def test_one_worker_loads_at_a_time_on_a_gpu() -> None:
    async with Pool(StandInGpu("GPU-a")) as pool:
        first = await pool.admit()
        waiting = await pool.wait_for_it()
        assert "another worker is loading its models" in pool.heard[-1].reason
        await pool.loads(first)
        await pool.time.until(waiting.done)

        assert waiting.result().device_uuid == "GPU-a"


async def test_of_two_at_the_same_moment_the_first_starts() -> None:
    async with Pool(StandInGpu("GPU-a")) as pool:
        tasks = [asyncio.create_task(pool.vram.admit("ocr")) for _ in range(2)]
        pool.waits = tasks
        await pool.time.pass_by(3)

        assert [task.done() for task in tasks] == [True, False]


async def test_what_was_booked_and_not_taken_is_not_given_twice() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=8 * GIB)

    async with Pool(gpu) as pool:
        await pool.one_job(gpu, 5 * GIB)
        first = await pool.admit()
        gpu.used_bytes, gpu.processes = GIB, ((PID, GIB),)
        await pool.loads(first)
        waiting = await pool.wait_for_it("other")  # 7 GiB are free, 4.5 of them promised
        assert pool.heard[-1].for_own_workers
        await pool.finishes(first)
        first.give_back()
        gpu.used_bytes, gpu.processes = 0, ()
        await pool.time.until(waiting.done)


async def test_a_worker_that_took_less_than_booked_leaves_the_rest_after_its_end_only() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=7 * GIB)

    async with Pool(gpu) as pool:
        first = await pool.admit()
        gpu.used_bytes, gpu.processes = GIB, ((PID, GIB),)
        await pool.loads(first)
        second = await pool.admit("other")  # 6 free, 2 promised

        assert second.device_uuid == "GPU-a"
        assert first.use.now_bytes == GIB


async def test_cancelling_books_nothing() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=4 * GIB)

    async with Pool(gpu) as pool:
        first = await pool.admit()
        cancelled = await pool.wait_for_it()
        behind = await pool.wait_for_it()
        cancelled.cancel()
        first.give_back()
        await pool.time.until(behind.done)

        assert behind.result().device_uuid == "GPU-a"
        assert cancelled.cancelled()


async def test_cancelling_in_the_moment_of_the_grant_gives_it_back() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=4 * GIB)

    async with Pool(gpu) as pool:
        task = asyncio.create_task(pool.vram.admit("ocr"))
        while pool.vram.counters.grants == 0:
            await turns(1)
        assert not task.done(), "the grant is decided and not yet received"
        task.cancel()
        await turns(3)
        assert task.cancelled()
        assert (await pool.admit(within_s=1)).device_uuid == "GPU-a"


async def test_one_cancelled_in_the_round_that_would_admit_it_books_nothing() -> None:
    gpu = StandInGpu("GPU-a")

    async with Pool(gpu) as pool:
        await pool.one_job(gpu, 10 * GIB, "large")
        gpu.used_bytes = 18 * GIB
        tasks: list[asyncio.Task[Grant]] = []

        def cancel_the_small_one(_: Waiting) -> None:
            tasks[1].cancel()

        large = pool.vram.admit("large", cancel_the_small_one)
        tasks += [asyncio.create_task(each) for each in (large, pool.vram.admit("small"))]
        pool.waits = tasks
        await pool.time.until(tasks[1].done)

        assert tasks[1].cancelled()
        assert pool.vram.counters.grants == 1, "that of the job before"
        assert (await pool.admit("small", within_s=1)).device_uuid == "GPU-a"


async def test_a_worker_killed_while_it_loads_frees_the_way() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=4 * GIB)

    async with Pool(gpu) as pool:
        first = await pool.admit()
        first.started("ocr", PID)
        waiting = await pool.wait_for_it()
        first.give_back()
        first.give_back()
        await pool.time.until(waiting.done)
        waiting.result().give_back()
        await pool.time.until(lambda: not pool.sampler.running)


async def test_closing_ends_the_measuring_it_began_itself() -> None:
    async with Pool(StandInGpu("GPU-a")) as pool:
        probe = GpuProbe(pool.nvml, environ={})
        vram = VramAdmission(probe, sleep=pool.time.sleep, clock=pool.time)
        vram.close()
        grant = await pool.time.drive(vram.admit("ocr"))
        grant.started("ocr", PID)
        await pool.time.pass_by(2)
        readings = pool.nvml.readings
        assert readings > 2
        vram.close()
        await pool.time.pass_by(10)
        assert pool.nvml.readings == readings


async def test_a_loop_that_is_cancelled_from_outside_cancels_those_who_wait() -> None:
    async with Pool(StandInGpu("GPU-a", used_bytes=23 * GIB)) as pool:
        before = asyncio.all_tasks()
        waiting = await pool.wait_for_it()
        for task in asyncio.all_tasks() - before - {waiting}:
            task.cancel()
        await turns(10)
        assert waiting.cancelled()


async def test_closing_cancels_those_who_wait() -> None:
    async with Pool(StandInGpu("GPU-a", used_bytes=23 * GIB)) as pool:
        waiting = await pool.wait_for_it()
        pool.vram.close()
        await turns(10)
        assert waiting.cancelled()


# ---- figures that are wrong ----------------------------------------------------------------------


async def test_more_than_any_gpu_has_starts_on_an_empty_one_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gpu = StandInGpu("GPU-a", total_bytes=2 * GIB)

    async with Pool(gpu) as pool:
        with caplog.at_level(logging.WARNING, logger="docling_serve"):
            await pool.admit(within_s=0)
        assert "3.0 GiB needed, 2.0 GiB available" in caplog.text
        assert pool.vram.counters.overcommitted == 1
        await pool.wait_for_it("other")  # not beside it, though


async def test_more_than_any_gpu_has_waits_for_the_neighbours_first() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=2 * GIB, used_bytes=GIB)
    with stand_in_ollama(StandInNeighbour(["llama3:latest"])) as ollama:
        async with Pool(gpu, neighbours=Settings(ollama.url)) as pool:

            def free() -> None:
                gpu.used_bytes = 0

            ollama.on_unload = lambda: pool.time.after(3.0, free)
            await pool.admit()
            assert gpu.used_bytes == 0
            assert pool.vram.counters.overcommitted == 1


async def test_a_learned_figure_with_its_margin_does_not_block_a_gpu_that_is_always_shared() -> (
    None
):
    gpu = StandInGpu("GPU-a", total_bytes=8 * GIB)

    async with Pool(gpu) as pool:
        await pool.one_job(gpu, 4 * GIB)
        gpu.used_bytes = int(3.8 * GIB)  # another program, from now on: 4.2 are left of 4.4 wanted
        waiting = await pool.wait_for_it(for_s=25)
        await pool.time.until(waiting.done, within_s=10)
        assert pool.vram.counters.overcommitted == 1


# ---- faults of ours ------------------------------------------------------------------------------


async def test_a_fault_in_deciding_reaches_those_who_wait_and_the_next_one_starts() -> None:
    async with Pool(StandInGpu("GPU-a", used_bytes=23 * GIB)) as pool:

        def fail(_: Waiting) -> None:
            raise RuntimeError("a fault of the listener")

        with pytest.raises(RuntimeError, match="a fault of the listener"):
            await pool.time.drive(pool.vram.admit("ocr", fail))
        pool.nvml.gpus = (StandInGpu("GPU-a"),)
        assert (await pool.admit(within_s=1)).device_uuid == "GPU-a"
