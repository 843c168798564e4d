"""How many tasks per second the local engine accepts, each on the disk before its answer.

    python -m benchmarks.journal [--folder DIR] [--tasks N] [--clients N]

Measures acceptance itself, without HTTP: staging of a one-kilobyte document, its row, and a commit,
by ``--clients`` clients at once; with fsync (``scratch_path`` set) and without (a temporary
folder). The folder decides: choose the disk that the server will use.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.targets import InBodyTarget

from docling_serve.engines.base import Submission, Upload
from docling_serve.engines.local.disk import Disk
from docling_serve.engines.local.engine import LocalEngine
from docling_serve.engines.local.journal import Journal
from docling_serve.engines.local.rules import LocalRules
from docling_serve.jobs.run_request import RunRequest
from docling_serve.jobs.spec import JobResult

_DOCUMENT = b"# One kilobyte\n" + b"x" * 1009


async def _never(request: RunRequest) -> JobResult:
    del request
    raise AssertionError("nothing runs here")


async def _nothing() -> None:
    return None


def _submission() -> Submission:
    return Submission(
        sources=[Upload("a.md", io.BytesIO(_DOCUMENT))],
        options=ConvertDocumentsOptions(),
        targets=[InBodyTarget()],
    )


async def _accept(folder: Path, tasks: int, clients: int, *, durable: bool) -> dict[str, Any]:
    (folder / "tasks").mkdir()
    journal = Journal.open(folder / "journal.sqlite3", durable=durable)
    engine = LocalEngine(
        _never,
        LocalRules(keep=True),
        folder / "tasks",
        journal,
        disk=Disk(sync=durable),
        clear_converters=_nothing,
    )
    waits: list[float] = []

    async def client() -> None:
        while len(waits) < tasks:
            before = time.perf_counter()
            await engine.submit(_submission())
            waits.append(time.perf_counter() - before)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    took = time.perf_counter() - began
    await engine.close()
    await journal.close()
    return {
        "fsync": durable,
        "clients": clients,
        "tasks": len(waits),
        "tasks_per_s": round(len(waits) / took, 1),
        "median_ms": round(1000 * statistics.median(waits), 2),
        "p99_ms": round(1000 * statistics.quantiles(waits, n=100)[98], 2),
    }


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 16])
    asked = parser.parse_args()
    runs = []
    for durable in (True, False):
        for clients in asked.clients:
            with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
                work = _accept(Path(folder), asked.tasks, clients, durable=durable)
                runs.append(asyncio.run(work))
    machine = {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": platform.platform(),
    }
    print(json.dumps({"machine": machine, "runs": runs}, indent=1))


if __name__ == "__main__":
    main()
