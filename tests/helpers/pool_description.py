"""What a worker pool and a driver say of themselves, made up: every figure that metrics show."""

from __future__ import annotations

from collections import Counter
from typing import Any

from docling_serve.observability.load import GpuMemory

SUMS = {
    "workers_started": 5,
    "stops": {"idle": 3, "crashed": 1},
    "losses": {"SIGSEGV": 1},
    "retries": 1,
    "overhead_by_part": {"spawn": 0.5, "import": 6.0, "load": 2.0, "release": 0.0},
    "converter_hits": 8,
    "converter_misses": 2,
    "onnx_fallbacks": 3,
    "peak_rss_bytes": 900,
    "peak_vram_bytes": 70,
}
ADMISSION = {"evictions": 2, "waits": 4, "wait_seconds": 7.5, "overcommitted": 1}


def pool(*workers: tuple[str, int, int | None], **others: Any) -> dict[str, Any]:
    """What a pool says of itself: each worker has a state, and so much host and GPU memory."""
    states = Counter(state for state, _, _ in workers)
    return {
        "metrics": SUMS,
        "admission": ADMISSION,
        "template": None,
        "workers": [
            {"state": state, "rss_bytes": rss, "vram_bytes": vram} for state, rss, vram in workers
        ],
        "by_state": {"lost": 0, **states},
        **others,
    }


async def gpus() -> list[GpuMemory]:
    return [GpuMemory("GPU-1", 8000, 3000)]
