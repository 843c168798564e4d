"""Seconds of small conversions in new forked workers, by requested options.

    python -m benchmarks.option_mixes [repetitions]

Each repetition forks two workers from a template with everything imported: one converts a
Markdown file twice, the other a scanned image four times, each time with other options that need
the same models. Prints medians per conversion as JSON: seconds, and seconds of CPU time, which is
less affected by other work on the machine. Needs no model hub.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.forked import OcrOnly, Template

_DOCUMENTS = Path(__file__).resolve().parent.parent / "examples" / "documents"
_PLAIN: dict[str, Any] = {"to_formats": ["md"], "image_export_mode": "placeholder"}
_Runs = list[tuple[str, str, dict[str, Any]]]
_RUNS: dict[str, _Runs] = {
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
    template = Template()
    seconds: dict[str, list[tuple[float, float]]] = {}
    for _ in range(repetitions):
        for group, runs in _RUNS.items():
            for (label, _, _), taken in zip(runs, template.run(converted, runs), strict=True):
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


def converted(runs: _Runs) -> list[tuple[float, float]]:
    """Seconds, and seconds of CPU time, of each of ``runs``, one after another."""
    taken = []
    started, cpu = time.perf_counter(), time.process_time()
    converter = OcrOnly()
    for _, name, options in runs:
        converter.convert(_DOCUMENTS / name, options)
        taken.append((time.perf_counter() - started, time.process_time() - cpu))
        started, cpu = time.perf_counter(), time.process_time()
    return taken


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)


if __name__ == "__main__":
    main()
