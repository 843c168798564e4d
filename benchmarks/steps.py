"""What a run does, in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.measures import beneath, burst, isolation, memory, requests, start, throughput
from benchmarks.plan import Bench
from benchmarks.servers import Product
from docling_serve.settings import DoclingServeSettings

Paired = Callable[[Bench, Product, int], None]
Single = Callable[[Bench, Product], None]
Own = Callable[[Bench], None]

# In rounds, both servers in each.
_PAIRED: dict[str, Paired] = {
    "start": start.start,
    "requests": requests.latency,
    "throughput": throughput.throughput,
}
# Once for each server.
_SINGLE: dict[str, Single] = {
    "memory": memory.memory,
    "queue": burst.queue,
    "result": burst.huge_result,
}
# Of this build only.
_OWN: dict[str, Own] = {
    "isolation": isolation.isolation,
    "first": isolation.first_after_idle,
    "fanout": isolation.fanout,
    "pool": beneath.pool,
    "journal": beneath.journal,
}
# Enough to see what this build is about.
QUICK_GROUPS = ("start", "requests", "throughput", "memory")
_FANOUT_SETTING = "subprocess_page_fanout"


@dataclass(frozen=True)
class Step:
    """One thing to do, and how the progress bar calls it."""

    title: str
    run: Callable[[], None]


def groups() -> list[str]:
    """The names that ``--only`` takes."""
    return [*_PAIRED, *_SINGLE, *_OWN]


def needs_peer(parts: Sequence[str]) -> bool:
    """Whether the other server takes part in any of these."""
    return not set(parts) <= set(_OWN)


def steps(bench: Bench, parts: Sequence[str]) -> list[Step]:
    """Everything to do. Who comes first changes from round to round: the first warms caches."""
    wanted = [name for name in parts if _is_possible(name)]
    return [*_paired(bench, wanted), *_single(bench, wanted), *_own(bench, wanted)]


def _paired(bench: Bench, wanted: Sequence[str]) -> Iterator[Step]:
    for number in range(1, bench.scale.rounds + 1):
        order = (bench.ours, bench.peer) if number % 2 else (bench.peer, bench.ours)
        for name, measure in _PAIRED.items():
            for product in order if name in wanted else ():
                title = f"round {number}, {name}, {product.name}"
                yield Step(title, partial(measure, bench, product, number))


def _single(bench: Bench, wanted: Sequence[str]) -> Iterator[Step]:
    for name, measure in _SINGLE.items():
        for product in (bench.ours, bench.peer) if name in wanted else ():
            yield Step(f"{name}, {product.name}", partial(measure, bench, product))


def _own(bench: Bench, wanted: Sequence[str]) -> Iterator[Step]:
    for name, measure in _OWN.items():
        if name in wanted:
            yield Step(name, partial(measure, bench))


def _is_possible(name: str) -> bool:
    return name != "fanout" or _FANOUT_SETTING in DoclingServeSettings.model_fields
