"""A pool that asks for admission, on clock and GPUs of the test."""

from __future__ import annotations

import asyncio
from typing import Any

from docling_serve.subprocess_worker.pool.admission import Waiting
from docling_serve.vram.admission import DEFAULT_RESERVE_BYTES, VramAdmission
from docling_serve.vram.grants import VramGrant
from docling_serve.vram.neighbours import UnloadReport, unload_external_models
from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.sampling import GpuSampler
from tests.helpers.loops import turns
from tests.helpers.stand_in_nvml import (
    StandInGpu,
    StandInNvml,
)
from tests.unit.vram.neighbour_settings import Settings
from tests.unit.vram.stepped_time import SteppedTime

RESERVE = DEFAULT_RESERVE_BYTES


PID = 41


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
        self.waits: list[asyncio.Task[VramGrant]] = []
        self._before: set[asyncio.Task[Any]] = set()

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

    async def admit(self, kind: str = "ocr", within_s: float = 1000.0) -> VramGrant:
        """A grant; time passes until there is one."""
        return await self.time.drive(self.vram.admit(kind, self.heard.append), within_s)

    async def wait_for_it(self, kind: str = "ocr", for_s: float = 1.0) -> asyncio.Task[VramGrant]:
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

    async def loads(self, grant: VramGrant, kind: str = "ocr", pid: int = PID) -> None:
        grant.started(kind, pid)
        grant.loaded()
        await self.sampled(2)

    async def finishes(self, grant: VramGrant, *, completed: bool = True) -> None:
        grant.finished(completed=completed)
        await self.sampled()

    async def one_job(
        self, gpu: StandInGpu, peak: int, kind: str = "ocr", pid: int = PID
    ) -> VramGrant:
        """A job of a fresh worker that takes ``peak`` bytes of an empty GPU and ends."""
        grant = await self.admit(kind)
        gpu.used_bytes, gpu.processes = peak, ((pid, peak),)
        await self.loads(grant, kind, pid)
        await self.finishes(grant)
        gpu.used_bytes, gpu.processes = 0, ()
        grant.give_back()
        return grant

    async def __aenter__(self) -> Pool:
        self._before = asyncio.all_tasks()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """The end. Nothing of the admission runs on afterwards."""
        for task in self.waits:
            task.cancel()
        self.vram.close()
        self.sampler.close()
        await turns(20)
        left = [task for task in asyncio.all_tasks() - self._before if not task.done()]
        assert kind or left == []
