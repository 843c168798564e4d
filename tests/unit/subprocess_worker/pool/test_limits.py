"""When a worker is to be replaced."""

from __future__ import annotations

from typing import Any

import pytest

from docling_serve.subprocess_worker.pool.limits import SPARE_GROWTH_BYTES, limit_reached
from docling_serve.subprocess_worker.pool.memory import MemoryRecord
from docling_serve.subprocess_worker.pool.states import StopReason
from docling_serve.subprocess_worker.protocol.config import WorkerPoolConfig

BIRTH = 200_000_000
FAT = MemoryRecord(current=BIRTH + SPARE_GROWTH_BYTES + 1, at_birth=BIRTH, after_first_job=BIRTH)
LEAN = MemoryRecord(current=BIRTH + SPARE_GROWTH_BYTES, at_birth=BIRTH, after_first_job=BIRTH)


@pytest.mark.parametrize(
    ("limits", "memory", "state", "expected"),
    [
        ({}, FAT, {}, None),
        ({}, FAT, {"at_rest": True}, StopReason.GROWTH),
        ({}, LEAN, {"at_rest": True}, None),
        ({}, FAT, {"at_rest": True, "jobs": 0}, None),
        ({"max_tasks": 3}, LEAN, {"jobs": 2}, None),
        ({"max_tasks": 3}, LEAN, {"jobs": 3}, StopReason.MAX_TASKS),
        ({"max_tasks": 1}, LEAN, {"jobs": 0}, None),
        ({"max_rss_bytes": BIRTH}, LEAN, {}, StopReason.MAX_RSS),
        ({"max_rss_bytes": 2 * BIRTH}, LEAN, {}, None),
        ({"max_vram_bytes": 5}, LEAN, {"vram_bytes": 6}, StopReason.MAX_VRAM),
        ({"max_vram_bytes": 5}, LEAN, {"vram_bytes": 5}, None),
        ({"max_growth_bytes": 1}, LEAN, {}, StopReason.GROWTH),
    ],
)
def test_limits(
    limits: dict[str, int],
    memory: MemoryRecord,
    state: dict[str, Any],
    expected: StopReason | None,
) -> None:
    asked = {"jobs": 1, "vram_bytes": 0, "at_rest": False, **state}

    assert limit_reached(WorkerPoolConfig(**limits), memory, **asked) is expected  # type: ignore[arg-type]
