"""Seconds of small conversions in fresh forked workers, by what the requests ask for.

    python -m benchmarks.option_mixes [repetitions]

Each repetition forks two workers from a template with everything imported: one converts a
Markdown file twice, the other a scanned image four times, each time with other options that need
the same models. Prints medians per conversion as JSON: seconds, and seconds of CPU time, which
other work on the machine disturbs less. Needs no model hub.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import yaml

_ROOT = Path(__file__).resolve().parent.parent
_DOCUMENTS = _ROOT / "examples" / "documents"
_TEMPLATE = "docling_serve.subprocess_worker.template_preload_plugins"
_PLAIN: dict[str, Any] = {"to_formats": ["md"], "image_export_mode": "placeholder"}
_RUNS: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "markdown": [
        ("first", "notes.md", _PLAIN),
        ("other document_timeout", "notes.md", _PLAIN | {"document_timeout": 60}),
    ],
    "scan": [
        ("first", "scan.png", _PLAIN),
        ("other images_scale", "scan.png", _PLAIN | {"images_scale": 1.0}),
        ("other document_timeout", "scan.png", _PLAIN | {"document_timeout": 60}),
        ("force_ocr", "scan.png", _PLAIN | {"force_ocr": True}),
    ],
}


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_TEMPLATE])
    _in_fresh_worker(context, [])  # starts the template and waits for its imports
    seconds: dict[str, list[tuple[float, float]]] = {}
    for _ in range(repetitions):
        for group, runs in _RUNS.items():
            for (label, _, _), taken in zip(runs, _in_fresh_worker(context, runs), strict=True):
                seconds.setdefault(f"{group}: {label}", []).append(taken)
    report = {
        "median_s": {name: _median(pair[0] for pair in pairs) for name, pairs in seconds.items()},
        "median_cpu_s": {
            name: _median(pair[1] for pair in pairs) for name, pairs in seconds.items()
        },
        "repetitions": repetitions,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }
    print(json.dumps(report, indent=2))


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)


def _in_fresh_worker(context: Any, runs: list[Any]) -> list[tuple[float, float]]:
    ours, theirs = context.Pipe()
    process = context.Process(target=_worker, args=(theirs, runs))
    process.start()
    theirs.close()
    taken: list[tuple[float, float]] = ours.recv()
    process.join()
    return taken


def _worker(channel: Connection, runs: list[Any]) -> None:
    taken = []
    started, cpu = time.perf_counter(), time.process_time()
    from docling_serve.conversion.conversion import Conversion  # noqa: PLC0415 - the template has it

    conversion = Conversion(_converter_config())
    with tempfile.TemporaryDirectory() as scratch:
        for number, (_, name, options) in enumerate(runs):
            _convert(conversion, Path(scratch), number, name, options)
            taken.append((time.perf_counter() - started, time.process_time() - cpu))
            started, cpu = time.perf_counter(), time.process_time()
    channel.send(taken)
    channel.close()
    os._exit(0)


def _convert(
    conversion: Any, scratch: Path, number: int, name: str, options: dict[str, Any]
) -> None:
    from docling_serve.jobs import JobSpec, StagedFile, TaskFolder  # noqa: PLC0415

    folder = TaskFolder.create(scratch, f"task-{number}")
    source = StagedFile(path=str(_DOCUMENTS / name), filename=name)
    spec = JobSpec(task_id=f"task-{number}", sources=[source], options=options)
    conversion.run(spec, folder)


def _converter_config() -> dict[str, Any]:
    settings = yaml.safe_load((_ROOT / "examples" / "ocr-only.yaml").read_text(encoding="utf-8"))
    return dict(settings)


if __name__ == "__main__":
    main()
