"""What the sandbox costs: the same documents in a worker with it and in one without, in turn.

    python -m benchmarks.sandbox_cost [--pairs 10]

Each worker has converted the document before, so that its models are loaded. Compared is the
processor time of the worker, which other programs disturb less than the time on the clock; the
two take turns, so that what disturbs one disturbs the other. Printed is the median of all pairs,
and the range of the middle half.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import logging
import os
import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.modes import worker_settings
from docling_serve.running.runtime import sandbox_plan
from docling_serve.sandbox.plan import SandboxPlan
from docling_serve.settings import DoclingServeSettings
from docling_serve.subprocess_worker import (
    SubprocessWorkerPool,
    WorkerConfig,
    WorkerPoolConfig,
    process_in_subprocess,
)

_DOCUMENTS = Path(__file__).resolve().parent.parent / "examples" / "documents"
_NAMES = ("scan.png", "letter.docx", "page.html")
#: The clock of a process counts in hundredths: short conversions are repeated.
_REPEATS = {"scan.png": 1, "letter.docx": 10, "page.html": 10}


def _pool(sandbox: SandboxPlan) -> SubprocessWorkerPool:
    # One thread: threads that wait for each other spin, more so when other programs run.
    worker = WorkerConfig(
        converter_config=worker_settings(), log_level="ERROR", threads=1, sandbox=sandbox
    )
    return SubprocessWorkerPool(
        config=WorkerPoolConfig(max_workers=1, light_workers=0, idle_timeout_s=3600, worker=worker)
    )


async def _convert(pool: SubprocessWorkerPool, name: str, number: int) -> None:
    content = base64.b64encode((_DOCUMENTS / name).read_bytes()).decode()
    task = {
        "task_id": f"{name}-{number}",
        "sources": [{"kind": "file", "filename": name, "base64_string": content}],
        "convert_options": {"to_formats": ["md"]},
    }
    answer = await process_in_subprocess(task, pool=pool)
    if answer["status"] == "error":
        raise RuntimeError(answer["error"])
    shutil.rmtree(answer["results"]["folder"])


async def _processor_s(pool: SubprocessWorkerPool, name: str) -> float:
    """Seconds of processor time that the worker takes for one round of ``name``."""
    (worker,) = pool.workers()
    process = psutil.Process(worker.pid)
    before = process.cpu_times()
    for number in range(_REPEATS[name]):
        await _convert(pool, name, number)
    after = process.cpu_times()
    return sum(after[:4]) - sum(before[:4])


async def _ratios(pairs: int) -> dict[str, list[float]]:
    plan = sandbox_plan(DoclingServeSettings(), {**os.environ, "HF_HUB_OFFLINE": "1"})
    pools = [_pool(replace(plan, mode="auto")), _pool(SandboxPlan(mode="off"))]
    found: dict[str, list[float]] = {name: [] for name in _NAMES}
    try:
        for name in _NAMES:
            for pool in pools:
                await _convert(pool, name, 0)
        for pair in range(pairs):
            for name in _NAMES:
                taken: dict[int, float] = {}
                # The second one finds warm caches, so they swap places.
                for side in (0, 1) if pair % 2 else (1, 0):
                    taken[side] = await _processor_s(pools[side], name)
                found[name].append(taken[0] / taken[1])
    finally:
        for pool in pools:
            await pool.close()
    return found


def main() -> None:
    """Measure, and print the median and the quartiles for each document."""
    parser = argparse.ArgumentParser(description="What the sandbox costs.")
    parser.add_argument("--pairs", type=int, default=10)
    pairs = max(2, parser.parse_args().pairs)
    logging.disable(logging.WARNING)
    found: dict[str, Any] = asyncio.run(_ratios(pairs))
    for name, ratios in found.items():
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{name:12} {middle - 1:+.1%} with the sandbox (half of {pairs} pairs: "
            f"{low - 1:+.1%} to {high - 1:+.1%})"
        )


if __name__ == "__main__":
    main()
