"""Convert the bundled documents in both modes, compare memory, and report whether all is well."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

from docling_serve.doctor.trial.memory import INTERVAL_S
from docling_serve.process.shutdown import unwinding_at_sigterm

from .checks import memory_kept, wrong_texts
from .plot import draw
from .report import ConsoleWatcher, comparison, make_console, memory_table
from .runs import Run, run
from .server import DemoError

PAGE_HINT = (
    "To see it live: DOCLING_SERVE_ENABLE_UI=true DOCLING_SERVE_ENABLE_MANAGEMENT_ENDPOINTS=true "
    "make serve, then open http://127.0.0.1:5001/ui"
)


@unwinding_at_sigterm()
def main() -> int:
    """Run the demonstration; the exit status is 0 only if texts and memory are right."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder to write")
    output: Path = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    console = make_console()
    began = time.monotonic()
    try:
        on = run("on", output / "server-on.log", ConsoleWatcher(console, heads=True))
        console.print(memory_table(on))
        off = run("off", output / "server-off.log", ConsoleWatcher(console, heads=False))
        console.print(memory_table(off))
    except DemoError as exc:
        console.print(f"FAILED: {exc}", style="bold red", markup=False)
        return 1
    save(on, off, output / "memory.json")
    draw(off, on, output / "memory.png")
    console.print(comparison(on, off))
    console.print(f"Plot: {output / 'memory.png'}  data: {output / 'memory.json'}")
    problems = [*wrong_texts(on), *wrong_texts(off), *memory_kept(on)]
    for problem in problems:
        console.print(f"FAILED: {problem}", style="bold red", markup=False)
    if not problems:
        count = len(on.tasks) + len(off.tasks)
        seconds = time.monotonic() - began
        console.print(
            f"[green]OK[/green]: {count} texts are right, and with the mode on the server "
            f"holds at rest what it held before ({seconds:.0f} s)."
        )
        console.print(PAGE_HINT)
    return 1 if problems else 0


def save(on: Run, off: Run, file: Path) -> None:
    """Write every sample and task of both runs as JSON; bytes, and seconds since server start."""
    runs = [dataclasses.asdict(one) for one in (on, off)]
    file.write_text(json.dumps({"interval_s": INTERVAL_S, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
