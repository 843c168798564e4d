"""The cost of isolation, against its goals: medians of interleaved rounds in one run.

    python -m benchmarks.overhead [--rounds 7] [--pages 10] [--only starts trips scans]

``scans``: a scan converted in a warm worker, and in a new process for each task (forkserver;
spawn with a standby process), against the same conversion in the server's own process. Each round
has one of each, one after the other. ``starts``: from the request for a worker until it is ready,
forked. ``trips``: the round trip of a job that does nothing through the pool.

Nothing else should run on the machine meanwhile; the load is printed with the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks import machine
from benchmarks.inputs import scan
from benchmarks.measures import isolation
from benchmarks.overhead.pool import starts, trips
from benchmarks.plan import fresh, in_process, loaded
from benchmarks.servers import this_build
from benchmarks.statistics import Spread, ratios, spread

GOALS = {
    "warm worker": 1.02,
    "fresh process, forkserver": 1.05,
    "fresh process, spawn + standby": 1.10,
    "start, forkserver": 0.060,
    "no-op round trip": 0.005,
}


def scans(rounds: int, pages: int) -> dict[str, Spread]:
    """Each way's time as a multiple of the time in the server's process, round by round; each round
    starts with another way, so that none has the better position."""
    document, ours = scan(pages), this_build()
    with ExitStack() as stack:
        ways = {
            isolation.IN_PROCESS: isolation.open_way(stack, ours, in_process()),
            isolation.WARM: isolation.open_way(stack, ours, loaded(ours, 1)),
            isolation.FORKSERVER: isolation.open_way(stack, ours, fresh("forkserver")),
            isolation.STANDBY: isolation.open_way(stack, ours, fresh("spawn", 1)),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for client in ways.values():
            client.convert(scan(1))  # the first loads models, or makes the template
        for number in range(rounds):
            order = list(ways)
            for way in order[number % len(order) :] + order[: number % len(order)]:
                isolation.wait_at_rest(ways[way], way)
                seconds[way].append(ways[way].convert(document).wall_s)
    base = seconds.pop(isolation.IN_PROCESS)
    found = {f"{isolation.IN_PROCESS}, s": spread(base)}
    return found | {way: spread(ratios(taken, base)) for way, taken in seconds.items()}


def measure(only: list[str], rounds: int, pages: int) -> dict[str, Spread]:
    """Everything that is requested."""
    found: dict[str, Spread] = {}
    if "trips" in only:
        found["no-op round trip"] = asyncio.run(trips())
    if "starts" in only:
        found["start, forkserver"] = asyncio.run(starts())
    if "scans" in only:
        found |= scans(rounds, pages)
    return found


def show(found: dict[str, Spread]) -> None:
    """A table: median, range, goal."""
    print(f"{'':<36} {'median':>9} {'lowest':>9} {'highest':>9} {'n':>5}  goal")
    for name, values in found.items():
        goal = GOALS.get(name)
        told = "" if goal is None else f"{goal:g} {'met' if values.median <= goal else 'MISSED'}"
        print(
            f"{name:<36} {values.median:9.4f} {values.low:9.4f} {values.high:9.4f}"
            f" {values.count:5d}  {told}"
        )


def command_line() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds of scans")
    parser.add_argument("--pages", type=int, default=10, help="pages of the scan")
    names = ["trips", "starts", "scans"]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="WHAT")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    # Like Ctrl-C: unwinds every "with", so that no server is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    load = os.getloadavg()[0]
    print(f"{machine.describe()}, load {load:.1f} at the start")
    found = measure(arguments.only, arguments.rounds, arguments.pages)
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    show(found)
    if arguments.json:
        arguments.json.write_text(json.dumps({k: vars(v) for k, v in found.items()}, indent=2))


if __name__ == "__main__":
    command_line()
