"""Parts of this build measured alone, without HTTP: the worker pool and the journal.

Each runs in a process of its own: the fork server's copies must not hold the benchmarks' imports.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.peer import ROOT
from benchmarks.plan import Bench
from benchmarks.servers import OURS

POOL = {"start, forkserver": "pool.start_ms", "no-op round trip": "pool.trip_ms"}


def pool(bench: Bench) -> None:
    """Seconds until a forked worker is ready, and the seconds of a job that does nothing."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder) / "pool.json"
        _run("benchmarks.overhead", "--only", "starts", "trips", "--json", str(file))
        found = json.loads(file.read_text(encoding="utf-8"))
    for name, measure in POOL.items():
        bench.results.add(measure, OURS, 1, [found[name]["median"] * 1000])


def journal(bench: Bench) -> None:
    """Tasks accepted per second, with each on the disk before its answer, and without that."""
    told = _run("benchmarks.journal", "--tasks", str(bench.scale.journal_tasks))
    for run in json.loads(told)["runs"]:
        name = "journal.durable_per_s" if run["fsync"] else "journal.per_s"
        bench.results.add(f"{name}@{run['clients']}", OURS, 1, [run["tasks_per_s"]])


def _run(module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout
