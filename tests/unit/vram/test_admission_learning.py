"""What admission learns of the memory that tasks take."""

from __future__ import annotations

import pytest

from docling_serve.vram.needs import FLOOR_BYTES
from tests.helpers.stand_in_nvml import (
    GIB,
    StandInGpu,
)
from tests.unit.vram.admission_play import PID, RESERVE, Pool


async def test_the_next_of_a_kind_is_judged_by_what_the_last_took() -> None:
    gpu = StandInGpu("GPU-a")

    async with Pool(gpu) as pool:
        booked = []
        for peak in (10 * GIB, 2 * GIB, 12 * GIB):
            grant = await pool.one_job(gpu, peak)
            booked.append(round(grant.booked_bytes / GIB, 2))
        booked.append(round((await pool.admit()).booked_bytes / GIB, 2))
        # The reserve; 10 and a tenth, twice; 12 and a tenth.
        assert booked == [3, 11, 11, 13.2]


async def test_the_peak_counts_and_not_the_last_reading() -> None:
    gpu = StandInGpu("GPU-a")

    async with Pool(gpu) as pool:
        grant = await pool.admit()
        await pool.loads(grant)
        for used in (2 * GIB, 6 * GIB, GIB):
            gpu.used_bytes, gpu.processes = used, ((PID, used),)
            await pool.sampled()
        use = grant.use
        await pool.finishes(grant)
        grant.give_back()

        assert (use.now_bytes, use.peak_bytes) == (GIB, 6 * GIB)
        assert (await pool.admit()).booked_bytes == pytest.approx(6.6 * GIB, abs=GIB / 100)


async def test_readings_are_taken_while_a_job_runs_and_not_afterwards() -> None:
    async with Pool(StandInGpu("GPU-a")) as pool:
        grant = await pool.admit()
        grant.started("ocr", PID)
        before = pool.nvml.readings
        await pool.time.pass_by(10)
        assert pool.nvml.readings - before == pytest.approx(20, abs=2)
        await pool.finishes(grant)
        await pool.time.until(lambda: not pool.sampler.running)


@pytest.mark.parametrize(
    ("listed", "ocr_ran", "booked"),
    [(False, False, RESERVE), (True, False, FLOOR_BYTES), (False, True, FLOOR_BYTES)],
    ids=["nothing to go by", "the driver listed it", "OCR ran"],
)
async def test_that_no_gpu_is_needed_must_be_proven(
    listed: bool, ocr_ran: bool, booked: int
) -> None:
    gpu = StandInGpu("GPU-a", processes=((PID, 0),) if listed else ())

    async with Pool(gpu) as pool:
        grant = await pool.admit()
        await pool.loads(grant)
        grant.finished(completed=True, ocr_ran=ocr_ran)
        await pool.sampled()
        grant.give_back()
        assert (await pool.admit()).booked_bytes == booked


async def test_a_kind_that_begins_to_use_the_gpu_is_learned_anew() -> None:
    gpu = StandInGpu("GPU-a")

    async with Pool(gpu) as pool:
        for peak in (0, 4 * GIB):
            assert (await pool.one_job(gpu, peak)).device_uuid == "GPU-a"
        assert (await pool.admit()).booked_bytes == pytest.approx(4.4 * GIB)


async def test_a_job_that_failed_early_teaches_nothing() -> None:
    gpu = StandInGpu("GPU-a")

    async with Pool(gpu) as pool:
        grant = await pool.admit()
        gpu.used_bytes, gpu.processes = GIB, ((PID, GIB),)
        await pool.loads(grant)
        await pool.finishes(grant, completed=False)
        grant.give_back()
        assert (await pool.admit()).booked_bytes == RESERVE


async def test_a_worker_killed_in_its_job_can_only_raise_the_figure() -> None:
    gpu = StandInGpu("GPU-a")

    async with Pool(gpu) as pool:
        for used, expected in ((GIB, RESERVE), (10 * GIB, 11 * GIB), (GIB, 11 * GIB)):
            grant = await pool.admit()
            gpu.used_bytes, gpu.processes = used, ((PID, used),)
            await pool.loads(grant)
            gpu.used_bytes, gpu.processes = 0, ()
            grant.give_back()
            again = await pool.admit()
            assert again.booked_bytes == expected
            again.give_back()


async def test_workers_whose_shares_are_a_guess_teach_nothing() -> None:
    gpu = StandInGpu("GPU-a", processes=((123456, None),))

    async with Pool(gpu) as pool:
        first = await pool.admit("ocr")
        await pool.loads(first, "ocr")
        second = await pool.admit("vlm")
        gpu.used_bytes = 10 * GIB
        await pool.loads(second, "vlm", PID + 1)
        await pool.finishes(first)
        await pool.finishes(second)
        first.give_back()
        second.give_back()
        gpu.used_bytes = 0
        assert (await pool.admit("vlm")).booked_bytes == RESERVE


async def test_a_job_that_was_never_measured_with_its_models_teaches_nothing() -> None:
    async with Pool(StandInGpu("GPU-a")) as pool:
        grant = await pool.admit()
        grant.started("ocr", PID)
        grant.finished(completed=True)
        grant.give_back()
        assert (await pool.admit()).booked_bytes == RESERVE


async def test_after_out_of_memory_the_retry_waits_for_more() -> None:
    gpu = StandInGpu("GPU-a")

    async with Pool(gpu) as pool:
        await pool.one_job(gpu, 8 * GIB)
        grant = await pool.admit()
        gpu.used_bytes, gpu.processes = 9 * GIB, ((PID, 9 * GIB),)
        await pool.loads(grant)
        grant.out_of_memory()
        await pool.finishes(grant, completed=False)
        grant.give_back()
        gpu.used_bytes, gpu.processes = 12 * GIB, ()  # 12 would have done before
        await pool.wait_for_it()
        gpu.used_bytes = 0
        await pool.time.until(pool.waits[0].done)
        # A quarter more than the peak of 9, and a tenth as margin.
        assert pool.waits[0].result().booked_bytes == pytest.approx(12.375 * GIB)


async def test_a_worker_that_ran_two_kinds_teaches_about_neither() -> None:
    gpu = StandInGpu("GPU-a")

    async with Pool(gpu) as pool:
        grant = await pool.admit("ocr")
        await pool.loads(grant, "ocr")
        assert await pool.time.drive(grant.extend("vlm"))
        gpu.used_bytes, gpu.processes = 9 * GIB, ((PID, 9 * GIB),)
        await pool.loads(grant, "vlm")
        await pool.finishes(grant)
        grant.give_back()
        gpu.used_bytes, gpu.processes = 0, ()
        for kind in ("ocr", "vlm"):
            again = await pool.admit(kind)
            assert again.booked_bytes == RESERVE
            again.give_back()
