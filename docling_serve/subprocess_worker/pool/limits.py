"""When a worker is to be replaced by a fresh one."""

from __future__ import annotations

from docling_serve.subprocess_worker.pool.memory import MemoryRecord
from docling_serve.subprocess_worker.pool.states import StopReason
from docling_serve.subprocess_worker.protocol.config import WorkerPoolConfig

#: How much more than before its first job a standby process may hold.
SPARE_GROWTH_BYTES = 128 * 2**20


def limit_reached(
    config: WorkerPoolConfig, memory: MemoryRecord, *, jobs: int, vram_bytes: int, at_rest: bool
) -> StopReason | None:
    """The limit that a worker has reached after ``jobs`` jobs; ``at_rest``: it holds no models.

    Before its first job it has reached none: a fresh one would be as large.
    """
    if jobs == 0:
        return None
    limits = (
        (StopReason.MAX_TASKS, config.max_tasks, jobs + 1),
        (StopReason.MAX_RSS, config.max_rss_bytes, memory.current),
        (StopReason.MAX_VRAM, config.max_vram_bytes, vram_bytes),
        (StopReason.GROWTH, config.max_growth_bytes, memory.growth),
        (StopReason.GROWTH, SPARE_GROWTH_BYTES if at_rest else 0, memory.growth_at_rest),
    )
    return next((reason for reason, limit, value in limits if 0 < limit < value), None)
