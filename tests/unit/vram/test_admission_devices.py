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
from tests.unit.vram.admission_play import Pool


async def test_the_gpu_with_the_most_free_memory_is_chosen_by_uuid() -> None:
    gpus = (StandInGpu("GPU-a", used_bytes=9 * GIB), StandInGpu("GPU-b", used_bytes=2 * GIB))

    async with Pool(*gpus, devices="cuda:0,cuda:1") as pool:
        grants = [await pool.admit(within_s=0) for _ in range(2)]
        assert [grant.device_uuid for grant in grants] == ["GPU-b", "GPU-a"]


@pytest.mark.parametrize(("visible", "chosen"), [(None, "GPU-b"), ("1,0", "GPU-a")])
async def test_positions_follow_the_order_of_visible_devices(
    visible: str | None, chosen: str
) -> None:
    gpus = (StandInGpu("GPU-a"), StandInGpu("GPU-b"))
    async with Pool(*gpus, visible=visible, devices="cuda:1") as pool:
        assert (await pool.admit(within_s=0)).device_uuid == chosen


async def test_without_a_setting_it_is_the_first_visible_gpu() -> None:
    async with Pool(StandInGpu("GPU-a"), StandInGpu("GPU-b"), visible="1,0") as pool:
        first = await pool.admit(within_s=0)
        await pool.wait_for_it()
        assert first.device_uuid == "GPU-b"


async def test_a_device_that_is_not_there_is_said_and_the_others_used(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Pool(StandInGpu("GPU-a"), devices="cuda:0,cuda:7") as pool:
        with caplog.at_level(logging.WARNING, logger="docling_serve"):
            grants = [await pool.admit(within_s=0)]
            grants[0].give_back()
            grants.append(await pool.admit(within_s=0))
        assert [grant.device_uuid for grant in grants] == ["GPU-a"] * 2
        assert [record.getMessage() for record in caplog.records] == [
            "cuda:7 is not among the visible GPUs: not used"
        ]


def test_a_setting_that_is_no_device_is_refused() -> None:
    with pytest.raises(ValueError, match="'gpu0' is not a device"):
        VramAdmission(GpuProbe(StandInNvml(), environ={}), devices="gpu0")
