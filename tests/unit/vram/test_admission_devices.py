"""Admission on several GPUs."""

from __future__ import annotations

import logging

import pytest

from docling_serve.vram.admission import VramAdmission
from docling_serve.vram.nvml import GpuProbe
from tests.helpers.stand_in_nvml import (
    GIB,
    StandInGpu,
    StandInNvml,
)
from tests.unit.vram.admission_play import Pool, play


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
