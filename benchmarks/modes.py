"""What worker processes cost: the same scans converted in this process, then in a worker.

    python -m benchmarks.modes [--documents 10]

Libraries are imported before the clock starts, here and in the worker; loading the models counts
on both sides. The last line is the overhead in percent. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import logging
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from docling_serve.jobs.flat_task import stage_task
from docling_serve.jobs.spec import TaskFolder
from docling_serve.subprocess_worker import (
    SubprocessWorkerPool,
    WorkerConfig,
    WorkerPoolConfig,
    process_in_subprocess,
)

_EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def worker_settings() -> dict[str, Any]:
    """The profile without models from elsewhere."""
    profile = (_EXAMPLES / "ocr-only.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(profile))


def _tasks(count: int) -> list[dict[str, Any]]:
    document = base64.b64encode((_EXAMPLES / "documents" / "scan.png").read_bytes()).decode()
    source = {"kind": "file", "filename": "scan.png", "base64_string": document}
    options = {"to_formats": ["md"]}
    return [
        {"task_id": f"scan-{number}", "sources": [source], "convert_options": options}
        for number in range(count)
    ]


def _in_process(tasks: list[dict[str, Any]], folder: Path) -> float:
    from docling_serve.conversion.conversion import Conversion  # noqa: PLC0415 - imports torch
    from docling_serve.conversion.imports import import_all  # noqa: PLC0415

    import_all(allow_external_plugins=True)
    settings = worker_settings()
    started = time.monotonic()
    conversion = Conversion(settings)
    for task in tasks:
        task_folder = TaskFolder.create(folder, task["task_id"])
        spec = stage_task(task, task_folder, converter_config=settings)
        conversion.run(spec, task_folder)
    return time.monotonic() - started


async def _in_subprocess(tasks: list[dict[str, Any]]) -> float:
    worker = WorkerConfig(converter_config=worker_settings(), log_level="ERROR")
    pool = SubprocessWorkerPool(config=WorkerPoolConfig(max_workers=1, worker=worker))
    try:
        await pool.prewarm()
        started = time.monotonic()
        answers = await asyncio.gather(*(process_in_subprocess(task, pool=pool) for task in tasks))
        took_s = time.monotonic() - started
    finally:
        await pool.close()
    for answer in answers:
        if answer["status"] == "error":
            raise RuntimeError(answer["error"])
        shutil.rmtree(answer["results"]["folder"])
    return took_s


def main() -> None:
    """Measure both, and print the seconds and the overhead."""
    parser = argparse.ArgumentParser(description="What worker processes cost.")
    parser.add_argument("--documents", type=int, default=10)
    tasks = _tasks(parser.parse_args().documents)
    logging.disable(logging.WARNING)
    subprocess_s = asyncio.run(_in_subprocess(tasks))
    with tempfile.TemporaryDirectory() as folder:
        in_process_s = _in_process(tasks, Path(folder))
    print(f"in process:  {in_process_s:.2f} s for {len(tasks)} documents")
    print(f"subprocess:  {subprocess_s:.2f} s")
    print(f"Subprocess overhead: {(subprocess_s - in_process_s) / in_process_s * 100:.1f}%")


if __name__ == "__main__":
    main()
