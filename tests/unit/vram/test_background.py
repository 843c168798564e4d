from __future__ import annotations

import asyncio
import threading

from docling_serve.vram.background import Pause, read_in_background
from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.readings import GpuState
from tests.helpers.stand_in_nvml import StandInGpu, StandInNvml


async def test_a_reading_does_not_run_on_the_event_loop() -> None:
    threads: list[threading.Thread] = []
    nvml = StandInNvml(
        [StandInGpu("GPU-a")], on_init=lambda: threads.append(threading.current_thread())
    )

    reading = await read_in_background(GpuProbe(nvml, environ={}))

    assert reading.state is GpuState.KNOWN
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon, "a driver that hangs must not keep the server from ending"


async def test_a_driver_that_hangs_is_unknown_and_delivers_to_nobody() -> None:
    go_on = threading.Event()

    def hang() -> None:
        assert go_on.wait(timeout=60)

    nvml = StandInNvml([StandInGpu("GPU-a")], on_init=hang)
    probe = GpuProbe(nvml, environ={})

    reading = await read_in_background(probe, limit_s=0.001)
    late = next(thread for thread in threading.enumerate() if thread.name == "gpu-reading")
    go_on.set()
    late.join(timeout=60)

    assert (reading.state, reading.reason) == (
        GpuState.UNKNOWN,
        "the GPU driver does not answer",
    )
    assert not late.is_alive()
    probe.close()
    assert nvml.open_count == 0, "the late reading gave the lock back"


async def test_a_pause_can_be_cut_short_also_before_it_begins() -> None:
    async def never(_seconds: float) -> None:
        await asyncio.Event().wait()

    pause = Pause(never)
    pause.cut()
    await pause.wait(1.0)
    asyncio.get_running_loop().call_soon(pause.cut)
    await pause.wait(1.0)


async def test_a_pause_ends_with_its_time() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    await Pause(sleep).wait(0.25)
    assert slept == [0.25]
