from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest

from docling_serve.subprocess_worker.admission import Admission, Grant, Waiting
from docling_serve.vram.admission import DEFAULT_RESERVE_BYTES, UNKNOWN_GRACE_S, VramAdmission
from docling_serve.vram.eviction import SETTLE_S
from docling_serve.vram.neighbours import UnloadReport, unload_external_models
from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.sampling import GpuSampler
from tests.helpers.loops import run, turns
from tests.helpers.stand_in_nvml import (
    GIB,
    LIBRARY_NOT_FOUND,
    UNKNOWN,
    StandInGpu,
    StandInNvml,
    StandInNvmlError,
)
from tests.unit.vram.stand_in_neighbours import (
    StandInNeighbour,
    stand_in_llama_swap,
    stand_in_ollama,
)
from tests.unit.vram.stepped_time import SteppedTime

RESERVE = DEFAULT_RESERVE_BYTES
PID = 41


@dataclass
class Settings:
    unload_ollama_base_url: str | None = None
    unload_ollama_model: str | None = None
    unload_llama_swap_base_url: str | None = None
    unload_llama_cpp_base_url: str | None = None
    unload_vllm_base_url: str | None = None
    unload_lm_studio_base_url: str | None = None
    unload_external_model_timeout: float = 30.0


class Pool:
    """Plays the worker pool towards an admission on stand-in GPUs, in stepped time."""

    def __init__(
        self,
        *gpus: StandInGpu,
        visible: str | None = None,
        devices: str = "",
        neighbours: Settings | None = None,
    ) -> None:
        self.time = SteppedTime()
        self.nvml = StandInNvml(gpus)
        environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        probe = GpuProbe(self.nvml, environ=environ)
        self.settings = neighbours
        self.sampler = GpuSampler(probe, sleep=self.time.sleep, clock=self.time)
        self.vram = VramAdmission(
            probe,
            devices=devices,
            unload=None if neighbours is None else self._unload,
            sampler=self.sampler,
            sleep=self.time.sleep,
            clock=self.time,
        )
        self.heard: list[Waiting] = []
        self.waits: list[asyncio.Task[Grant]] = []

    async def _unload(self) -> list[UnloadReport]:
        """Real requests to real servers: time stands still during them, not between them."""
        assert self.settings is not None

        async def sleep(seconds: float) -> None:
            self.time.outside -= 1
            await self.time.sleep(seconds)
            self.time.outside += 1

        self.time.outside += 1
        reports = await unload_external_models(self.settings, sleep=sleep, clock=self.time)
        self.time.outside -= 1
        return reports

    async def admit(self, kind: str = "ocr", within_s: float = 1000.0) -> Grant:
        """A grant; time passes until there is one."""
        return await self.time.drive(self.vram.admit(kind, self.heard.append), within_s)

    async def wait_for_it(self, kind: str = "ocr", for_s: float = 1.0) -> asyncio.Task[Grant]:
        """Begin an admit that is still waiting after ``for_s`` seconds."""
        task = asyncio.create_task(self.vram.admit(kind, self.heard.append))
        self.waits.append(task)
        await self.time.pass_by(for_s)
        assert not task.done()
        return task

    async def sampled(self, times: int = 1) -> None:
        """Take so many readings, as a running worker brings them about."""
        for _ in range(times):
            before = self.nvml.readings
            self.sampler.look_now()
            await self.time.until(lambda before=before: self.nvml.readings > before)  # type: ignore[misc]
            await turns(10)

    async def loads(self, grant: Grant, kind: str = "ocr", pid: int = PID) -> None:
        self.vram.running(grant, kind, pid)
        self.vram.loaded(grant)
        await self.sampled(2)

    async def finishes(self, grant: Grant, *, completed: bool = True) -> None:
        self.vram.finished(grant, completed=completed)
        await self.sampled()

    async def one_job(self, gpu: StandInGpu, peak: int, kind: str = "ocr", pid: int = PID) -> Grant:
        """A job of a fresh worker that takes ``peak`` bytes of an empty GPU and ends."""
        grant = await self.admit(kind)
        gpu.used_bytes, gpu.processes = peak, ((pid, peak),)
        await self.loads(grant, kind, pid)
        await self.finishes(grant)
        gpu.used_bytes, gpu.processes = 0, ()
        self.vram.release(grant)
        return grant

    def end(self) -> None:
        self.vram.close()
        self.sampler.close()


def play(scenario: Callable[[Pool], Coroutine[Any, Any, None]], pool: Callable[[], Pool]) -> None:
    """Run a scenario, and hold afterwards that nothing of the admission runs on."""

    async def main() -> None:
        before = asyncio.all_tasks()
        playing = pool()
        await scenario(playing)
        for task in playing.waits:
            task.cancel()
        playing.end()
        await turns(20)
        left = [task for task in asyncio.all_tasks() - before if not task.done()]
        assert left == []

    run(main())


# ---- enough memory, or no figures ---------------------------------------------------------


def test_it_is_what_the_pool_asks_for() -> None:
    admission: Admission = VramAdmission(GpuProbe(StandInNvml(), environ={}))

    assert admission.counters.grants == 0


def test_with_enough_free_memory_a_job_starts_at_once_on_its_gpu() -> None:
    async def scenario(pool: Pool) -> None:
        grant = await pool.admit(within_s=0)

        assert (grant.kind, grant.device_uuid, grant.booked_bytes) == ("ocr", "GPU-a", RESERVE)
        assert pool.nvml.readings == 1
        assert pool.heard == []
        assert (pool.vram.counters.grants, pool.vram.counters.waits) == (1, 0)
        assert pool.nvml.open_count == 0

    play(scenario, lambda: Pool(StandInGpu("GPU-a")))


def test_without_a_gpu_every_job_starts_at_once_and_nothing_is_measured() -> None:
    async def scenario(pool: Pool) -> None:
        pool.nvml.init = StandInNvmlError(LIBRARY_NOT_FOUND)
        grant = await pool.admit(within_s=0)
        pool.vram.running(grant, "ocr", PID)
        assert await pool.vram.extend(grant, "vlm")
        pool.vram.out_of_memory(grant)
        pool.vram.finished(grant, completed=False)
        pool.vram.release(grant)
        await pool.time.pass_by(10)

        assert (grant.device_uuid, grant.booked_bytes) == (None, 0)
        assert pool.vram.use(grant).now_bytes is None
        assert pool.nvml.readings == 1

    play(scenario, Pool)


def test_one_after_the_other_without_a_pause_all_start() -> None:
    async def scenario(pool: Pool) -> None:
        pool.nvml.init = StandInNvmlError(LIBRARY_NOT_FOUND)
        for _ in range(20):
            await pool.vram.admit("ocr")
        assert pool.vram.counters.grants == 20

    play(scenario, Pool)


def test_an_unknown_driver_is_said_once_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(pool: Pool) -> None:
        pool.nvml.init = StandInNvmlError(UNKNOWN)
        with caplog.at_level(logging.WARNING, logger="docling_serve"):
            grants = [await pool.admit(within_s=0) for _ in range(3)]

        assert [grant.device_uuid for grant in grants] == [None] * 3
        [record] = caplog.records
        assert "free GPU memory is not known" in record.getMessage()
        assert "Unknown Error" in record.getMessage()

    play(scenario, lambda: Pool(StandInGpu("GPU-a", used_bytes=24 * GIB)))


def test_a_driver_that_falls_silent_is_waited_for_a_moment() -> None:
    async def scenario(pool: Pool) -> None:
        waiting = await pool.wait_for_it()
        pool.nvml.init = StandInNvmlError(UNKNOWN)
        await pool.time.pass_by(UNKNOWN_GRACE_S / 2)
        assert not waiting.done()
        assert pool.heard[-1] == Waiting("no GPU figures: the NVIDIA driver reports: Unknown Error")
        await pool.time.until(waiting.done, within_s=UNKNOWN_GRACE_S)

        assert waiting.result().device_uuid is None

    play(scenario, lambda: Pool(StandInGpu("GPU-a", used_bytes=23 * GIB)))


def test_without_figures_neighbours_are_asked_first() -> None:
    with stand_in_ollama(StandInNeighbour(["llama3:latest"])) as ollama:

        async def scenario(pool: Pool) -> None:
            pool.nvml.init = StandInNvmlError(LIBRARY_NOT_FOUND)
            await pool.admit()
            assert ollama.models == []
            assert pool.vram.counters.evictions == 1
            assert pool.heard[0] == Waiting("neighbours on the GPU are asked to unload")

        play(scenario, lambda: Pool(neighbours=Settings(ollama.url)))


# ---- neighbours ---------------------------------------------------------------------------


def test_a_neighbour_is_left_alone_while_there_is_room() -> None:
    with stand_in_ollama(StandInNeighbour(["llama3:latest"])) as ollama:

        async def scenario(pool: Pool) -> None:
            await pool.admit()
            assert ollama.calls == []

        gpu = StandInGpu("GPU-a", used_bytes=20 * GIB)
        play(scenario, lambda: Pool(gpu, neighbours=Settings(ollama.url)))


def test_a_neighbour_that_frees_late_is_waited_for_by_what_the_driver_says() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=22 * GIB)
    with stand_in_ollama(StandInNeighbour(["llama3:latest"])) as ollama:

        async def scenario(pool: Pool) -> None:
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

        play(scenario, lambda: Pool(gpu, neighbours=Settings(ollama.url)))


def test_a_neighbour_that_reloads_at_once_is_asked_again() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=22 * GIB)
    with stand_in_llama_swap(StandInNeighbour(["coder"])) as swap:

        async def scenario(pool: Pool) -> None:
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

        neighbours = Settings(unload_llama_swap_base_url=swap.url)
        play(scenario, lambda: Pool(gpu, neighbours=neighbours))


def test_a_neighbour_that_never_frees_keeps_the_job_waiting_and_the_reason_shown() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=int(21.5 * GIB))
    with stand_in_ollama(StandInNeighbour(["llama3:latest"], keeps=True)) as ollama:

        async def scenario(pool: Pool) -> None:
            waiting = await pool.wait_for_it(for_s=60)
            asked = ollama.calls.count("POST /api/generate llama3:latest")
            assert asked == 3, "again, but ever less often"
            assert pool.vram.counters.evictions == 0
            assert pool.heard[-1].reason.startswith(
                "3.0 GiB of GPU memory wanted (subprocess_vram_reserve, until a task was seen), "
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

        neighbours = Settings(ollama.url, unload_external_model_timeout=5)
        play(scenario, lambda: Pool(gpu, neighbours=neighbours))


def test_each_wait_asks_anew() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=22 * GIB)
    with stand_in_ollama(StandInNeighbour(["llama3:latest"])) as ollama:

        async def scenario(pool: Pool) -> None:
            def free() -> None:
                gpu.used_bytes = 0

            ollama.on_unload = free
            for rounds in (1, 2):
                grant = await pool.admit()
                await pool.time.until(lambda: pool.vram.counters.evictions == rounds)  # noqa: B023
                pool.vram.release(grant)
                gpu.used_bytes, ollama.models = 22 * GIB, ["llama3:latest"]
            assert pool.time.now < SETTLE_S, "though neighbours are not asked twice in a wait"

        play(scenario, lambda: Pool(gpu, neighbours=Settings(ollama.url)))


def test_a_neighbour_that_cannot_be_asked_stops_nobody_for_whom_there_is_room() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=22 * GIB)
    with stand_in_ollama(StandInNeighbour(["llama3:latest"], errors=1000)) as ollama:

        async def scenario(pool: Pool) -> None:
            waiting = await pool.wait_for_it(for_s=5)
            gpu.used_bytes = 0
            await pool.time.until(waiting.done)
            assert waiting.result().device_uuid == "GPU-a"
            assert pool.vram.counters.evictions == 0

        play(scenario, lambda: Pool(gpu, neighbours=Settings(ollama.url)))


# ---- several workers ----------------------------------------------------------------------


def test_one_worker_loads_at_a_time_on_a_gpu() -> None:
    async def scenario(pool: Pool) -> None:
        first = await pool.admit()
        waiting = await pool.wait_for_it()
        assert "another worker is loading its models" in pool.heard[-1].reason
        await pool.loads(first)
        await pool.time.until(waiting.done)

        assert waiting.result().device_uuid == "GPU-a"

    play(scenario, lambda: Pool(StandInGpu("GPU-a")))


def test_of_two_at_the_same_moment_the_first_starts() -> None:
    async def scenario(pool: Pool) -> None:
        tasks = [asyncio.create_task(pool.vram.admit("ocr")) for _ in range(2)]
        pool.waits = tasks
        await pool.time.pass_by(3)

        assert [task.done() for task in tasks] == [True, False]

    play(scenario, lambda: Pool(StandInGpu("GPU-a")))


def test_what_was_booked_and_not_taken_is_not_given_twice() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=8 * GIB)

    async def scenario(pool: Pool) -> None:
        await pool.one_job(gpu, 5 * GIB)
        first = await pool.admit()
        gpu.used_bytes, gpu.processes = GIB, ((PID, GIB),)
        await pool.loads(first)
        waiting = await pool.wait_for_it("other")  # 7 GiB are free, 4.5 of them promised
        assert pool.heard[-1].for_own_workers
        await pool.finishes(first)
        pool.vram.release(first)
        gpu.used_bytes, gpu.processes = 0, ()
        await pool.time.until(waiting.done)

    play(scenario, lambda: Pool(gpu))


def test_a_worker_that_took_less_than_booked_leaves_the_rest_after_its_end_only() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=7 * GIB)

    async def scenario(pool: Pool) -> None:
        first = await pool.admit()
        gpu.used_bytes, gpu.processes = GIB, ((PID, GIB),)
        await pool.loads(first)
        second = await pool.admit("other")  # 6 free, 2 promised

        assert second.device_uuid == "GPU-a"
        assert pool.vram.use(first).now_bytes == GIB

    play(scenario, lambda: Pool(gpu))


def test_cancelling_books_nothing() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=4 * GIB)

    async def scenario(pool: Pool) -> None:
        first = await pool.admit()
        cancelled = await pool.wait_for_it()
        behind = await pool.wait_for_it()
        cancelled.cancel()
        pool.vram.release(first)
        await pool.time.until(behind.done)

        assert behind.result().device_uuid == "GPU-a"
        assert cancelled.cancelled()

    play(scenario, lambda: Pool(gpu))


def test_cancelling_in_the_moment_of_the_grant_gives_it_back() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=4 * GIB)

    async def scenario(pool: Pool) -> None:
        task = asyncio.create_task(pool.vram.admit("ocr"))
        while pool.vram.counters.grants == 0:
            await turns(1)
        assert not task.done(), "the grant is decided and not yet received"
        task.cancel()
        await turns(3)
        assert task.cancelled()
        assert (await pool.admit(within_s=1)).device_uuid == "GPU-a"

    play(scenario, lambda: Pool(gpu))


def test_one_cancelled_in_the_round_that_would_admit_it_books_nothing() -> None:
    gpu = StandInGpu("GPU-a")

    async def scenario(pool: Pool) -> None:
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

    play(scenario, lambda: Pool(gpu))


def test_a_worker_killed_while_it_loads_frees_the_way() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=4 * GIB)

    async def scenario(pool: Pool) -> None:
        first = await pool.admit()
        pool.vram.running(first, "ocr", PID)
        waiting = await pool.wait_for_it()
        pool.vram.release(first)
        pool.vram.release(first)
        await pool.time.until(waiting.done)
        pool.vram.release(waiting.result())
        await pool.time.until(lambda: not pool.sampler.running)

    play(scenario, lambda: Pool(gpu))


def test_closing_ends_the_measuring_it_began_itself() -> None:
    async def scenario(pool: Pool) -> None:
        probe = GpuProbe(pool.nvml, environ={})
        vram = VramAdmission(probe, sleep=pool.time.sleep, clock=pool.time)
        vram.close()
        grant = await pool.time.drive(vram.admit("ocr"))
        vram.running(grant, "ocr", PID)
        await pool.time.pass_by(2)
        readings = pool.nvml.readings
        assert readings > 2
        vram.close()
        await pool.time.pass_by(10)
        assert pool.nvml.readings == readings

    play(scenario, lambda: Pool(StandInGpu("GPU-a")))


def test_a_loop_that_is_cancelled_from_outside_cancels_those_who_wait() -> None:
    async def scenario(pool: Pool) -> None:
        before = asyncio.all_tasks()
        waiting = await pool.wait_for_it()
        for task in asyncio.all_tasks() - before - {waiting}:
            task.cancel()
        await turns(10)
        assert waiting.cancelled()

    play(scenario, lambda: Pool(StandInGpu("GPU-a", used_bytes=23 * GIB)))


def test_closing_cancels_those_who_wait() -> None:
    async def scenario(pool: Pool) -> None:
        waiting = await pool.wait_for_it()
        pool.vram.close()
        await turns(10)
        assert waiting.cancelled()

    play(scenario, lambda: Pool(StandInGpu("GPU-a", used_bytes=23 * GIB)))


# ---- several GPUs -------------------------------------------------------------------------


def test_the_gpu_with_the_most_free_memory_is_chosen_by_uuid() -> None:
    gpus = (StandInGpu("GPU-a", used_bytes=9 * GIB), StandInGpu("GPU-b", used_bytes=2 * GIB))

    async def scenario(pool: Pool) -> None:
        grants = [await pool.admit(within_s=0) for _ in range(2)]
        assert [grant.device_uuid for grant in grants] == ["GPU-b", "GPU-a"]

    play(scenario, lambda: Pool(*gpus, devices="cuda:0,cuda:1"))


@pytest.mark.parametrize(("visible", "chosen"), [(None, "GPU-b"), ("1,0", "GPU-a")])
def test_positions_follow_the_order_of_visible_devices(visible: str | None, chosen: str) -> None:
    async def scenario(pool: Pool) -> None:
        assert (await pool.admit(within_s=0)).device_uuid == chosen

    gpus = (StandInGpu("GPU-a"), StandInGpu("GPU-b"))
    play(scenario, lambda: Pool(*gpus, visible=visible, devices="cuda:1"))


def test_without_a_setting_it_is_the_first_visible_gpu() -> None:
    async def scenario(pool: Pool) -> None:
        first = await pool.admit(within_s=0)
        await pool.wait_for_it()
        assert first.device_uuid == "GPU-b"

    play(scenario, lambda: Pool(StandInGpu("GPU-a"), StandInGpu("GPU-b"), visible="1,0"))


def test_a_device_that_is_not_there_is_said_and_the_others_used(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(pool: Pool) -> None:
        with caplog.at_level(logging.WARNING, logger="docling_serve"):
            grants = [await pool.admit(within_s=0)]
            pool.vram.release(grants[0])
            grants.append(await pool.admit(within_s=0))
        assert [grant.device_uuid for grant in grants] == ["GPU-a"] * 2
        assert [record.getMessage() for record in caplog.records] == [
            "cuda:7 is not among the visible GPUs: not used"
        ]

    play(scenario, lambda: Pool(StandInGpu("GPU-a"), devices="cuda:0,cuda:7"))


def test_a_setting_that_is_no_device_is_refused() -> None:
    with pytest.raises(ValueError, match="'gpu0' is not a device"):
        VramAdmission(GpuProbe(StandInNvml(), environ={}), devices="gpu0")


# ---- what is learned ----------------------------------------------------------------------


def test_the_next_of_a_kind_is_judged_by_what_the_last_took() -> None:
    gpu = StandInGpu("GPU-a")

    async def scenario(pool: Pool) -> None:
        booked = []
        for peak in (10 * GIB, 2 * GIB, 12 * GIB):
            grant = await pool.one_job(gpu, peak)
            booked.append(round(grant.booked_bytes / GIB, 2))
        booked.append(round((await pool.admit()).booked_bytes / GIB, 2))
        # The reserve; 10 and a tenth; 9.2 and a tenth; 12 and a tenth.
        assert booked == [3, 11, 10.12, 13.2]

    play(scenario, lambda: Pool(gpu))


def test_the_peak_counts_and_not_the_last_reading() -> None:
    gpu = StandInGpu("GPU-a")

    async def scenario(pool: Pool) -> None:
        grant = await pool.admit()
        await pool.loads(grant)
        for used in (2 * GIB, 6 * GIB, GIB):
            gpu.used_bytes, gpu.processes = used, ((PID, used),)
            await pool.sampled()
        use = pool.vram.use(grant)
        await pool.finishes(grant)
        pool.vram.release(grant)

        assert (use.now_bytes, use.peak_bytes) == (GIB, 6 * GIB)
        assert (await pool.admit()).booked_bytes == pytest.approx(6.6 * GIB, abs=GIB / 100)

    play(scenario, lambda: Pool(gpu))


def test_readings_are_taken_while_a_job_runs_and_not_afterwards() -> None:
    async def scenario(pool: Pool) -> None:
        grant = await pool.admit()
        pool.vram.running(grant, "ocr", PID)
        before = pool.nvml.readings
        await pool.time.pass_by(10)
        assert pool.nvml.readings - before == pytest.approx(20, abs=2)
        await pool.finishes(grant)
        await pool.time.until(lambda: not pool.sampler.running)

    play(scenario, lambda: Pool(StandInGpu("GPU-a")))


def test_a_kind_seen_to_use_no_gpu_starts_on_a_full_one() -> None:
    gpu = StandInGpu("GPU-a")

    async def scenario(pool: Pool) -> None:
        await pool.one_job(gpu, 0)
        gpu.used_bytes = 24 * GIB
        grants = [await pool.admit(within_s=0) for _ in range(2)]
        assert [grant.booked_bytes for grant in grants] == [0, 0]

    play(scenario, lambda: Pool(gpu))


def test_a_kind_that_begins_to_use_the_gpu_is_learned_anew() -> None:
    gpu = StandInGpu("GPU-a")

    async def scenario(pool: Pool) -> None:
        for peak in (0, 4 * GIB):
            assert (await pool.one_job(gpu, peak)).device_uuid == "GPU-a"
        assert (await pool.admit()).booked_bytes == pytest.approx(4.4 * GIB)

    play(scenario, lambda: Pool(gpu))


def test_a_job_that_failed_early_teaches_nothing() -> None:
    gpu = StandInGpu("GPU-a")

    async def scenario(pool: Pool) -> None:
        grant = await pool.admit()
        gpu.used_bytes, gpu.processes = GIB, ((PID, GIB),)
        await pool.loads(grant)
        await pool.finishes(grant, completed=False)
        pool.vram.release(grant)
        assert (await pool.admit()).booked_bytes == RESERVE

    play(scenario, lambda: Pool(gpu))


def test_a_worker_killed_in_its_job_can_only_raise_the_figure() -> None:
    gpu = StandInGpu("GPU-a")

    async def scenario(pool: Pool) -> None:
        for used, expected in ((GIB, RESERVE), (10 * GIB, 11 * GIB), (GIB, 11 * GIB)):
            grant = await pool.admit()
            gpu.used_bytes, gpu.processes = used, ((PID, used),)
            await pool.loads(grant)
            gpu.used_bytes, gpu.processes = 0, ()
            pool.vram.release(grant)
            again = await pool.admit()
            assert again.booked_bytes == expected
            pool.vram.release(again)

    play(scenario, lambda: Pool(gpu))


def test_workers_whose_shares_are_a_guess_teach_nothing() -> None:
    gpu = StandInGpu("GPU-a", processes=((123456, None),))

    async def scenario(pool: Pool) -> None:
        first = await pool.admit("ocr")
        await pool.loads(first, "ocr")
        second = await pool.admit("vlm")
        gpu.used_bytes = 10 * GIB
        await pool.loads(second, "vlm", PID + 1)
        await pool.finishes(first)
        await pool.finishes(second)
        pool.vram.release(first)
        pool.vram.release(second)
        gpu.used_bytes = 0
        assert (await pool.admit("vlm")).booked_bytes == RESERVE

    play(scenario, lambda: Pool(gpu))


def test_a_job_that_was_never_measured_with_its_models_teaches_nothing() -> None:
    async def scenario(pool: Pool) -> None:
        grant = await pool.admit()
        pool.vram.running(grant, "ocr", PID)
        pool.vram.finished(grant, completed=True)
        pool.vram.release(grant)
        assert (await pool.admit()).booked_bytes == RESERVE

    play(scenario, lambda: Pool(StandInGpu("GPU-a")))


def test_after_out_of_memory_the_retry_waits_for_more() -> None:
    gpu = StandInGpu("GPU-a")

    async def scenario(pool: Pool) -> None:
        await pool.one_job(gpu, 8 * GIB)
        grant = await pool.admit()
        gpu.used_bytes, gpu.processes = 9 * GIB, ((PID, 9 * GIB),)
        await pool.loads(grant)
        pool.vram.out_of_memory(grant)
        await pool.finishes(grant, completed=False)
        pool.vram.release(grant)
        gpu.used_bytes, gpu.processes = 12 * GIB, ()  # 12 would have done before
        await pool.wait_for_it()
        gpu.used_bytes = 0
        await pool.time.until(pool.waits[0].done)
        # A quarter more than the peak of 9, and a tenth as margin.
        assert pool.waits[0].result().booked_bytes == pytest.approx(12.375 * GIB)

    play(scenario, lambda: Pool(gpu))


def test_a_worker_that_ran_two_kinds_teaches_about_neither() -> None:
    gpu = StandInGpu("GPU-a")

    async def scenario(pool: Pool) -> None:
        grant = await pool.admit("ocr")
        await pool.loads(grant, "ocr")
        assert await pool.time.drive(pool.vram.extend(grant, "vlm"))
        gpu.used_bytes, gpu.processes = 9 * GIB, ((PID, 9 * GIB),)
        await pool.loads(grant, "vlm")
        await pool.finishes(grant)
        pool.vram.release(grant)
        gpu.used_bytes, gpu.processes = 0, ()
        for kind in ("ocr", "vlm"):
            again = await pool.admit(kind)
            assert again.booked_bytes == RESERVE
            pool.vram.release(again)

    play(scenario, lambda: Pool(gpu))


# ---- warm workers -------------------------------------------------------------------------


async def warm(pool: Pool, gpu: StandInGpu, taken: int) -> Grant:
    grant = await pool.admit("ocr")
    gpu.used_bytes, gpu.processes = taken, ((PID, taken),)
    await pool.loads(grant, "ocr")
    await pool.finishes(grant)
    return grant


def test_a_warm_worker_may_run_its_own_kind_without_a_question() -> None:
    gpu = StandInGpu("GPU-a")

    async def scenario(pool: Pool) -> None:
        grant = await warm(pool, gpu, 3 * GIB)
        gpu.used_bytes = 24 * GIB
        readings = pool.nvml.readings
        assert await pool.vram.extend(grant, "ocr")
        assert pool.nvml.readings == readings

    play(scenario, lambda: Pool(gpu))


def test_a_warm_worker_takes_another_kind_only_into_free_memory() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=8 * GIB)

    async def scenario(pool: Pool) -> None:
        grant = await warm(pool, gpu, 3 * GIB)
        gpu.used_bytes = 6 * GIB  # a neighbour came
        assert not await pool.time.drive(pool.vram.extend(grant, "vlm"))
        gpu.used_bytes = 3 * GIB
        assert await pool.time.drive(pool.vram.extend(grant, "vlm"))
        pool.vram.loaded(grant)
        assert not await pool.time.drive(pool.vram.extend(grant, "third")), "5 free, 3 promised"

    play(scenario, lambda: Pool(gpu))


def test_a_warm_worker_loads_another_kind_in_its_turn() -> None:
    gpu = StandInGpu("GPU-a")

    async def scenario(pool: Pool) -> None:
        grant = await warm(pool, gpu, 3 * GIB)
        starting = await pool.admit("ocr")
        assert not await pool.time.drive(pool.vram.extend(grant, "vlm"))
        pool.vram.loaded(starting)
        assert await pool.time.drive(pool.vram.extend(grant, "vlm"))
        await pool.wait_for_it("ocr")
        assert "another worker is loading" in pool.heard[-1].reason

    play(scenario, lambda: Pool(gpu))


def test_a_warm_worker_leaves_the_memory_to_those_who_wait() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=8 * GIB)

    async def scenario(pool: Pool) -> None:
        await pool.one_job(gpu, 7 * GIB, "large")
        grant = await warm(pool, gpu, 3 * GIB)
        await pool.wait_for_it("large")
        assert not await pool.time.drive(pool.vram.extend(grant, "vlm")), "though 5 are free"

    play(scenario, lambda: Pool(gpu))


def test_a_warm_worker_takes_a_kind_that_needs_no_gpu_without_a_question() -> None:
    gpu = StandInGpu("GPU-a")

    async def scenario(pool: Pool) -> None:
        await pool.one_job(gpu, 0, "text")
        grant = await warm(pool, gpu, 3 * GIB)
        readings = pool.nvml.readings
        assert await pool.vram.extend(grant, "text")
        assert pool.nvml.readings == readings

    play(scenario, lambda: Pool(gpu))


def test_a_warm_worker_goes_on_when_the_driver_falls_silent() -> None:
    gpu = StandInGpu("GPU-a")

    async def scenario(pool: Pool) -> None:
        grant = await warm(pool, gpu, 3 * GIB)
        pool.nvml.init = StandInNvmlError(UNKNOWN)
        assert await pool.time.drive(pool.vram.extend(grant, "vlm"))

    play(scenario, lambda: Pool(gpu))


def test_an_idle_worker_of_ours_is_to_go_for_one_that_waits() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=6 * GIB)
    with stand_in_ollama(StandInNeighbour(["llama3:latest"])) as ollama:

        async def scenario(pool: Pool) -> None:
            idle = await warm(pool, gpu, 4 * GIB)
            waiting = await pool.wait_for_it("vlm", for_s=30)
            assert pool.heard[-1].for_own_workers
            assert "workers of this server hold the rest" in pool.heard[-1].reason
            assert ollama.calls == [], "ours goes before a neighbour"
            assert not await pool.time.drive(pool.vram.extend(idle, "third"))
            gpu.used_bytes, gpu.processes = 0, ()
            pool.vram.release(idle)
            await pool.time.until(waiting.done)

        play(scenario, lambda: Pool(gpu, neighbours=Settings(ollama.url)))


# ---- figures that are wrong ---------------------------------------------------------------


def test_more_than_any_gpu_has_starts_on_an_empty_one_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gpu = StandInGpu("GPU-a", total_bytes=2 * GIB)

    async def scenario(pool: Pool) -> None:
        with caplog.at_level(logging.WARNING, logger="docling_serve"):
            await pool.admit(within_s=0)
        assert "3.0 GiB wanted, 2.0 GiB available" in caplog.text
        assert pool.vram.counters.overcommitted == 1
        await pool.wait_for_it("other")  # not beside it, though

    play(scenario, lambda: Pool(gpu))


def test_more_than_any_gpu_has_waits_for_the_neighbours_first() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=2 * GIB, used_bytes=GIB)
    with stand_in_ollama(StandInNeighbour(["llama3:latest"])) as ollama:

        async def scenario(pool: Pool) -> None:
            def free() -> None:
                gpu.used_bytes = 0

            ollama.on_unload = lambda: pool.time.after(3.0, free)
            await pool.admit()
            assert gpu.used_bytes == 0
            assert pool.vram.counters.overcommitted == 1

        play(scenario, lambda: Pool(gpu, neighbours=Settings(ollama.url)))


def test_a_learned_figure_with_its_margin_does_not_block_a_gpu_that_is_always_shared() -> None:
    gpu = StandInGpu("GPU-a", total_bytes=8 * GIB)

    async def scenario(pool: Pool) -> None:
        await pool.one_job(gpu, 4 * GIB)
        gpu.used_bytes = int(3.8 * GIB)  # another program, from now on: 4.2 are left of 4.4 wanted
        waiting = await pool.wait_for_it(for_s=25)
        await pool.time.until(waiting.done, within_s=10)
        assert pool.vram.counters.overcommitted == 1

    play(scenario, lambda: Pool(gpu))


# ---- faults of ours -----------------------------------------------------------------------


def test_a_fault_in_deciding_reaches_those_who_wait_and_the_next_one_starts() -> None:
    async def scenario(pool: Pool) -> None:
        def fail(_: Waiting) -> None:
            raise RuntimeError("a fault of the listener")

        with pytest.raises(RuntimeError, match="a fault of the listener"):
            await pool.time.drive(pool.vram.admit("ocr", fail))
        pool.nvml.gpus = (StandInGpu("GPU-a"),)
        assert (await pool.admit(within_s=1)).device_uuid == "GPU-a"

    play(scenario, lambda: Pool(StandInGpu("GPU-a", used_bytes=23 * GIB)))
