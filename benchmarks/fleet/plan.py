"""How many workers, gateways and hosts a load needs, and which part is the next limit.

    python -m benchmarks.fleet.plan --per-day 100000 --seconds 6

Workers come from a simulation of the queue; gateways and Redis from the processor time and memory
that the load test measured.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fleet.simulation import Costs, Work, workers_needed
from benchmarks.fleet.tables import table
from benchmarks.peer import ROOT

PUBLISHED = ROOT / "benchmarks" / "results" / "fleet.json"
DAY_S = 86_400
_GB = 1e9


@dataclass(frozen=True)
class Load:
    """Documents a day, ``peak`` times as many a second at the busiest hour as on average, and the
    work for each. ``within_s`` is how long 95 % of them may wait."""

    per_day: int
    work: Work
    peak: float = 3.0
    within_s: float = 60.0
    document_bytes: float = 1e6

    @property
    def per_s(self) -> float:
        """Documents a second at the peak."""
        return self.peak * self.per_day / DAY_S


@dataclass(frozen=True)
class Need:
    """What a load needs. ``backlog_h`` is how many hours of the peak the memory of Redis holds if
    no worker runs; ``redis_busy`` is the share of its one processor that Redis uses."""

    workers: int
    hosts: int
    gateways: int
    redis_busy: float
    backlog_h: float


def need(load: Load, costs: Costs, workers_per_host: int, redis_gb: float) -> Need:
    """The smallest fleet for ``load``."""
    workers = workers_needed(load.per_s, load.work, load.within_s)
    backlog = costs.waiting_limit(redis_gb * _GB, load.document_bytes)
    return Need(
        workers=workers,
        hosts=math.ceil(workers / workers_per_host),
        gateways=costs.gateways_needed(load.per_s),
        redis_busy=load.per_s * costs.redis_s,
        backlog_h=backlog / load.per_s / 3600,
    )


def costs_of(found: dict[str, Any]) -> Costs:
    """From the results of ``python -m benchmarks.fleet``.

    Raises:
        KeyError: the parts ``throughput`` and ``memory`` were not measured.
    """
    ours = next(each for each in found["throughput"] if each["engine"] == "rq")
    sizes = {int(size): used for size, used in found["redis_bytes_of_a_waiting_task"].items()}
    small, large = min(sizes), max(sizes)
    slope = (sizes[large] - sizes[small]) / (large - small)
    return Costs(
        gateway_s=ours["cpu_s"]["gateways"],
        redis_s=ours["cpu_s"]["redis"],
        redis_bytes=sizes[small] - slope * small,
        redis_bytes_per_byte=slope,
    )


def main() -> int:
    """Print the plan for the load on the command line."""
    arguments = _parser().parse_args()
    costs = costs_of(json.loads(arguments.measured.read_text(encoding="utf-8")))
    work = Work(arguments.seconds, arguments.variation)
    rows = []
    for per_day in arguments.per_day:
        load = Load(per_day, work, arguments.peak, arguments.within, arguments.kilobytes * 1000)
        found = need(load, costs, arguments.workers_per_host, arguments.redis_gb)
        rows.append(
            (
                f"{per_day:,}",
                f"{load.per_s:.2f}",
                f"{found.workers:,}",
                f"{found.hosts:,}",
                f"{found.gateways:,}",
                f"{found.redis_busy:.1%}",
                f"{found.backlog_h:,.1f} h",
            )
        )
    head = ("documents a day", "per s at the peak", "workers", "hosts", "gateways")
    print(table((*head, "Redis busy", "Redis full without workers after"), rows))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet.plan", description=__doc__)
    add = parser.add_argument
    add("--per-day", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], metavar="N")
    add("--seconds", type=float, required=True, help="of a worker for a document, on average")
    add("--variation", type=float, default=1.0, help="standard deviation / mean of it (1)")
    add("--peak", type=float, default=3.0, help="the busiest hour / the average (3)")
    add("--within", type=float, default=60.0, help="seconds that 95 %% may wait at most (60)")
    add("--kilobytes", type=float, default=1000.0, help="of a document, on average (1000)")
    add("--workers-per-host", type=int, default=4, metavar="N", help="(4)")
    add("--redis-gb", type=float, default=8.0, help="memory of Redis (8)")
    add("--measured", type=Path, default=PUBLISHED, help="results of python -m benchmarks.fleet")
    return parser


if __name__ == "__main__":
    sys.exit(main())
