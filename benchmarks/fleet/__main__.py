"""Load on several gateways and hosts of the rq engine, with a real Redis, and kills of each part.

    python -m benchmarks.fleet [--tasks N] [--gateways N] [--hosts N] [--peer-python FILE]

Clients queue the tasks, small Markdown documents of three tenants, through all gateways, and read
each result once. Meanwhile hosts, conversion processes, gateways and Redis are killed and started
again. Then the throughput of a smaller number of tasks is measured by number of workers, and beside
the local engine and docling-serve 1.38.2 with its own rq worker.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from benchmarks import machine, peer
from benchmarks.fleet import runs, tables
from benchmarks.fleet.runs import Throughput
from benchmarks.servers import UPSTREAM, Product, ServerFailed, this_build

RESULTS = peer.ROOT / "benchmarks" / "results"
PARTS = ("kills", "throughput", "memory")
_SIZES = (1_000, 100_000)
_MEMORY_TASKS = 100


def main() -> int:
    """Run the parts that the command line asks for; 1 if a task was lost or its result wrong."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ours, found = this_build(), _setup()
    code = 0
    if "kills" in arguments.only:
        run = runs.kill_run(ours, arguments.tasks, arguments.gateways, arguments.hosts, _say)
        found["kills"] = run.as_dict()
        code = int(run.verdict.done < run.verdict.tasks)
        _say(tables.kill_table(run))
    if "throughput" in arguments.only:
        measured = _throughput(ours, arguments)
        found["throughput"] = [each.as_dict() for each in measured]
        _say(tables.throughput_table(measured))
    if "memory" in arguments.only:
        memory = runs.redis_memory(ours, _MEMORY_TASKS, _SIZES)
        found["redis_bytes_of_a_waiting_task"] = memory
        _say(tables.memory_table(memory))
    file = arguments.json or RESULTS / f"fleet-{datetime.now():%Y%m%d-%H%M%S}.json"
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    _say(f"Results: {file}")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    add = parser.add_argument
    add("--tasks", type=int, default=10_000, metavar="N", help="of the run with kills (10,000)")
    add("--gateways", type=int, default=2, metavar="N", help="of the run with kills (2)")
    add("--hosts", type=int, default=3, metavar="N", help="of the run with kills (3)")
    add("--each", type=int, default=1_000, metavar="N", help="tasks of each throughput (1,000)")
    add("--workers", type=int, nargs="+", default=[1, 2, 4], metavar="N", help="to measure with")
    add("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    add("--json", type=Path, metavar="FILE", help="where to write the results")
    add("--peer-python", type=Path, metavar="FILE", help="a venv with docling-serve 1.38.2 and rq")
    return parser


def _throughput(ours: Product, arguments: argparse.Namespace) -> list[Throughput]:
    count: int = arguments.each
    measured = [runs.local_throughput(ours, count)]
    measured += [runs.throughput(ours, count, workers) for workers in arguments.workers]
    if arguments.peer_python is None:
        _say("docling-serve 1.38.2 is not measured: --peer-python is not given")
        return measured
    with tempfile.TemporaryDirectory(prefix="bench-plugin-") as folder:
        python = peer.find_or_install(arguments.peer_python)
        plugin = peer.write_plugin(Path(folder))
        product = Product(UPSTREAM, python, plugin, ours.config_file)
        try:
            measured.append(runs.throughput(product, count, 1))
        except (ServerFailed, RuntimeError) as exc:
            _say(f"docling-serve 1.38.2 is not measured: {exc}")
    return measured


def _setup() -> dict[str, object]:
    load = machine.load_per_processor()
    if load > machine.BUSY_LOAD:
        _say(f"The load is {load:.1f} per processor: take no figure per second from this run")
    return {
        "made": f"{datetime.now():%Y-%m-%d %H:%M}",
        "machine": machine.describe(),
        "load_per_processor": load,
    }


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
