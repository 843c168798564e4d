"""Where the time of a task in a new process goes, read from the server's log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

_ACCEPTED = re.compile(r"^task \S+: accepted")
_MOVE = re.compile(r"^worker (\d+): (\w+) -> (\w+) ")

# A stage starts with the first of these moves and ends with the last.
_STAGES = {
    "hand-over": ("standby -> booking", "booking -> busy"),
    "load": ("busy -> loading", "loading -> busy"),
    "work": ("loading -> busy", "busy -> warm"),
    "exit": ("warm -> stopping", "releasing -> stopped"),
}
START = "start"
NAMES = (START, *_STAGES)


@dataclass(frozen=True)
class Event:
    """A line of the log: when, and what it says."""

    seconds: float
    text: str


def events(log: str) -> Iterator[Event]:
    """The lines that are JSON; output that libraries print outside logging is left out."""
    for line in log.splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            moment = datetime.fromisoformat(entry["timestamp"])
            yield Event(moment.timestamp(), entry["message"])


def stages(found: Iterable[Event]) -> dict[str, list[float]]:
    """Seconds of each stage, of every task that loaded models, in the order of the log.

    ``start`` runs from the task's acceptance until its worker is ready, so it is there only where
    the worker was started for it. It holds the creation of the process and its imports.
    """
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    begun: dict[tuple[str, str], float] = {}
    accepted: float | None = None
    for event in found:
        if _ACCEPTED.match(event.text):
            accepted = event.seconds
        moved = _MOVE.match(event.text)
        if not moved:
            continue
        worker, before, after = moved.groups()
        move = f"{before} -> {after}"
        if move == "starting -> standby" and accepted is not None:
            seconds[START].append(event.seconds - accepted)
            accepted = None
        if move == "standby -> booking":
            accepted = None  # it went to a standby worker
        for name, (first, last) in _STAGES.items():
            if move == last and (worker, name) in begun:
                seconds[name].append(event.seconds - begun.pop((worker, name)))
            if move == first:
                begun[worker, name] = event.seconds
    return seconds
