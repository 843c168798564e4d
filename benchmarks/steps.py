"""The steps of a run, and their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.measures import beneath, burst, default, isolation, memory, requests, throughput
from benchmarks.plan import Bench
from benchmarks.servers import Product
from docling_serve.settings import DoclingServeSettings

Paired = Callable[[Bench, Product, int], None]
Single = Callable[[Bench, Product], None]
Own = Callable[[Bench], None]

# Measures by the part that they belong to, and by their own name where a part has several.
# In rounds, both servers in each.
_PAIRED: tuple[tuple[str, Paired], ...] = (
    ("default: alone", default.alone),
    ("default: small tasks", default.small_tasks),
    ("requests", requests.latency),
    ("throughput", throughput.throughput),
)
# Once for each server.
_SINGLE: tuple[tuple[str, Single], ...] = (
    ("spaced", default.spaced),
    ("memory", memory.memory),
    ("queue", burst.queue),
    ("result", burst.huge_result),
)
# Of this build only.
_OWN: tuple[tuple[str, Own], ...] = (
    ("default: nothing at rest", default.nothing_at_rest),
    ("default: starts", default.starts),
    ("isolation", isolation.isolation),
    ("first", isolation.first_after_idle),
    ("fanout", isolation.fanout),
    ("pool", beneath.pool),
    ("journal", beneath.journal),
)
# Enough to show what this build is about.
QUICK_GROUPS = ("default", "requests")
_FANOUT_SETTING = "subprocess_page_fanout"


@dataclass(frozen=True)
class Step:
    """One step, and its name in the progress bar."""

    title: str
    run: Callable[[], None]


def groups() -> list[str]:
    """The names that ``--only`` takes."""
    return list(dict.fromkeys(_part(title) for title, _ in (*_PAIRED, *_SINGLE, *_OWN)))


def needs_peer(parts: Sequence[str]) -> bool:
    """Whether the other server takes part in any of these."""
    return any(_part(title) in parts for title, _ in (*_PAIRED, *_SINGLE))


def steps(bench: Bench, parts: Sequence[str]) -> list[Step]:
    """All steps. The order of the servers alternates between rounds: the first warms caches."""
    wanted = [name for name in parts if _is_possible(name)]
    return [*_paired(bench, wanted), *_single(bench, wanted), *_own(bench, wanted)]


def _paired(bench: Bench, wanted: Sequence[str]) -> Iterator[Step]:
    for number in range(1, bench.scale.rounds + 1):
        order = (bench.ours, bench.peer) if number % 2 else (bench.peer, bench.ours)
        for title, measure in _PAIRED:
            for product in order if _part(title) in wanted else ():
                yield Step(
                    f"round {number}, {title}, {product.name}",
                    partial(measure, bench, product, number),
                )


def _single(bench: Bench, wanted: Sequence[str]) -> Iterator[Step]:
    for title, measure in _SINGLE:
        for product in (bench.ours, bench.peer) if _part(title) in wanted else ():
            yield Step(f"{title}, {product.name}", partial(measure, bench, product))


def _own(bench: Bench, wanted: Sequence[str]) -> Iterator[Step]:
    for title, measure in _OWN:
        if _part(title) in wanted:
            yield Step(title, partial(measure, bench))


def _part(title: str) -> str:
    return title.partition(":")[0]


def _is_possible(name: str) -> bool:
    return name != "fanout" or _FANOUT_SETTING in DoclingServeSettings.model_fields
