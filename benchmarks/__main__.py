"""Measure this build and docling-serve 1.38.2 in turn, on the same documents, and compare."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from subprocess import SubprocessError

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import inputs, machine, peer, plots, report
from benchmarks.client import RequestFailed
from benchmarks.plan import FULL, QUICK, Bench, Scale
from benchmarks.results import Results
from benchmarks.servers import EMBEDDED_OCR, UPSTREAM, Product, ServerFailed, this_build
from benchmarks.steps import QUICK_GROUPS, Step, groups, needs_peer, steps

RESULTS = peer.ROOT / "benchmarks" / "results"
PUBLISHED = RESULTS / "published.json"
PAGE = peer.ROOT / "docs" / "performance.md"
README = peer.ROOT / "README.md"
IMAGES = peer.ROOT / "docs" / "images"
_PLAIN_WIDTH = 130


def main() -> int:
    """Run what the command line asks for; 1 if a server failed, 2 if nothing could be compared."""
    arguments = _parser().parse_args()
    # Like Ctrl-C: unwinds every "with", so that no server is left running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PLAIN_WIDTH)
    try:
        given = arguments.report
        results = Results.read(given) if given else _measure(arguments, console)
    except (peer.PeerError, ValueError, OSError) as exc:
        console.print(f"{exc}", style="bold red", markup=False)
        return 2
    _show(results, console)
    if not given:
        _keep(results, console)
    if arguments.publish:
        _publish(results, console)
    return 1 if results.notes else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="small counts, fewer parts")
    add("--rounds", type=int, metavar="N", help="pairs of rounds (default: 3, quick 1)")
    add("--tasks", type=int, metavar="N", help="scanned pages for the memory curve")
    add("--workers", type=int, default=2, metavar="N", help="conversions side by side (default: 2)")
    add("--documents", type=Path, metavar="DIR", help="your own documents in place of the bundled")
    add(
        "--config",
        type=Path,
        default=EMBEDDED_OCR,
        metavar="FILE",
        help="config file of both servers (default: examples/ocr-only.yaml)",
    )
    add("--only", nargs="+", choices=groups(), metavar="PART", help=f"of: {', '.join(groups())}")
    add(
        "--peer-python",
        type=Path,
        metavar="FILE",
        help=f"interpreter of a venv with docling-serve {peer.VERSION} (default: makes one)",
    )
    add("--report", type=Path, metavar="JSON", help="measure nothing, show these results again")
    add("--publish", action="store_true", help="write it into docs/performance.md and README.md")
    return parser


def _measure(arguments: argparse.Namespace, console: Console) -> Results:
    wanted = arguments.only or (QUICK_GROUPS if arguments.quick else groups())
    config = arguments.config.resolve()
    with tempfile.TemporaryDirectory(prefix="bench-plugin-") as folder:
        there = this_build(config)
        if needs_peer(wanted):
            with console.status(f"docling-serve {peer.VERSION} is looked for, or installed"):
                python = peer.find_or_install(arguments.peer_python)
            there = Product(UPSTREAM, python, peer.write_plugin(Path(folder)), config)
        bench = Bench(
            ours=this_build(config),
            peer=there,
            inputs=_inputs(arguments),
            scale=_scale(arguments),
            workers=arguments.workers,
        )
        _describe(bench, arguments)
        _run(bench, steps(bench, wanted), console)
    return bench.results


def _scale(arguments: argparse.Namespace) -> Scale:
    scale = QUICK if arguments.quick else FULL
    rounds, tasks = arguments.rounds or scale.rounds, arguments.tasks or scale.memory_tasks
    return replace(scale, rounds=rounds, memory_tasks=tasks)


def _inputs(arguments: argparse.Namespace) -> inputs.Inputs:
    if arguments.documents:
        return inputs.from_folder(arguments.documents)
    scale = QUICK if arguments.quick else FULL
    return inputs.bundled(scale.scan_pages, scale.long_pages)


def _describe(bench: Bench, arguments: argparse.Namespace) -> None:
    results, used = bench.results, bench.inputs
    results.machine = machine.describe()
    load = machine.load_per_processor()
    results.setup = {
        "Made": f"{datetime.now():%Y-%m-%d %H:%M}, {'quick' if arguments.quick else 'full'}",
        "Rounds": str(bench.scale.rounds),
        "Workers, of either": str(bench.workers),
        "Documents": "your own" if arguments.documents else "generated",
        "Scan": f"{used.scan.pages} pages; the long one {used.long_scan.pages}",
        "Load before": f"{load:.2f} per processor",
    }
    if load > machine.BUSY_LOAD:
        results.setup["Load before"] += ", so others worked on the machine: take no figure from it"


def _run(bench: Bench, planned: list[Step], console: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("", total=len(planned))
        try:
            for step in planned:
                progress.update(bar, description=step.title)
                _step(bench, step, progress.console.print)
                progress.advance(bar)
        except KeyboardInterrupt:
            bench.results.notes.append("Stopped before its end; what was measured until then:")


def _step(bench: Bench, step: Step, say: Callable[[str], None]) -> None:
    """One failure must not cost the rest of a long run; the report mentions it."""
    started = time.monotonic()
    try:
        step.run()
    except (RequestFailed, ServerFailed, httpx.HTTPError, SubprocessError, OSError) as exc:
        note = f"{step.title} failed: {exc}".splitlines()[0]
        bench.results.notes.append(note)
        say(note)
    else:
        say(f"{step.title}: {time.monotonic() - started:.0f} s")


def _show(results: Results, console: Console) -> None:
    console.print(*report.tables(results))


def _keep(results: Results, console: Console) -> None:
    name = f"{datetime.now():%Y%m%d-%H%M%S}"
    results.write(RESULTS / f"{name}.json")
    drawn = plots.draw_all(results, RESULTS, name)
    page = RESULTS / f"{name}.md"
    page.write_text(report.markdown(results, drawn, RESULTS), encoding="utf-8")
    console.print(f"Report: {page}")


def _publish(results: Results, console: Console) -> None:
    results.write(PUBLISHED)
    drawn = plots.draw_all(results, IMAGES, "benchmark")
    report.put_into(PAGE, report.markdown(results, drawn, PAGE.parent))
    report.put_into(README, report.summary(results), report.SUMMARY_MARKS)
    console.print(f"Published: {PAGE}, {README}")


if __name__ == "__main__":
    sys.exit(main())
