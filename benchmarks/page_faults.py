"""What a scan costs in the kernel, with freed memory returned at once and with it kept.

    python -m benchmarks.page_faults [repetitions]

Each repetition forks two processes from a template with everything imported; one of them keeps
freed memory as workers do. Each converts a generated scan of 10 pages twice. Prints medians per
conversion as JSON: page faults, seconds of the kernel's time, seconds, the highest memory so far,
and after the second one the memory of the process at rest, both in MB. Needs no model hub.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import inputs
from benchmarks.forked import OcrOnly, Template
from docling_serve.internals.onnx_arena import give_back_arena, share_arena
from docling_serve.subprocess_worker.child.allocator import (
    give_back_freed_memory,
    keep_freed_memory,
)
from docling_serve.subprocess_worker.pool.memory import tree_rss

_PAGES = 10
_SCANS = ("first scan", "second scan")
_MB = 1e6


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    seen: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "scan.pdf"
        scan.write_bytes(inputs.scan(_PAGES).content)
        template = Template()
        for _ in range(repetitions):
            for kept in (False, True):
                for name, costs in zip(_SCANS, template.run(costs_of, scan, kept), strict=True):
                    how = "kept" if kept else "given back"
                    seen.setdefault(f"{name}, memory {how}", []).append(costs)
    medians = {
        name: {key: round(statistics.median(run[key] for run in runs), 2) for key in runs[0]}
        for name, runs in seen.items()
    }
    print(json.dumps({"pages": _PAGES, "repetitions": repetitions, **medians}, indent=2))


def costs_of(scan: Path, kept: bool) -> list[dict[str, float]]:
    """What each conversion of ``scan`` cost this process."""
    if kept:
        keep_freed_memory({})
    share_arena()
    converter = OcrOnly()
    costs = []
    for _ in _SCANS:
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        converter.convert(scan, {"to_formats": ["md"]})
        after = resource.getrusage(resource.RUSAGE_SELF)
        costs.append(
            {
                "page_faults": after.ru_minflt - before.ru_minflt,
                "kernel_s": after.ru_stime - before.ru_stime,
                "seconds": time.perf_counter() - started,
                "peak_mb": after.ru_maxrss * 1024 / _MB,
            }
        )
    give_back_arena()
    if kept:
        give_back_freed_memory()
    costs[-1]["at_rest_mb"] = tree_rss(os.getpid()) / _MB
    return costs


if __name__ == "__main__":
    main()
