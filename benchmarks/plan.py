"""How much is measured, and with which settings each server runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.inputs import Inputs
from benchmarks.results import Results
from benchmarks.servers import Product

CONCURRENCIES = (1, 2, 4)
PAUSES = (1, 10, 60)
CLIENTS = 16


@dataclass(frozen=True)
class Scale:
    """Counts of one run. Tasks and documents are per server, and per round where rounds repeat."""

    rounds: int
    pauses: tuple[int, ...]
    spaced: int
    cpu_tasks: int
    sync_tasks: int
    small: int
    office: int
    pages: int
    scan_pages: int
    long_pages: int
    health: int
    first: int
    memory_tasks: int
    queue_tasks: int
    pictures: int
    journal_tasks: int
    isolation: int


FULL = Scale(
    rounds=3,
    pauses=PAUSES,
    spaced=30,
    cpu_tasks=60,
    sync_tasks=320,
    small=30,
    office=12,
    pages=8,
    scan_pages=10,
    long_pages=50,
    health=300,
    first=3,
    memory_tasks=100,
    queue_tasks=1000,
    pictures=9,
    journal_tasks=500,
    isolation=6,
)
QUICK = Scale(
    rounds=1,
    pauses=(1,),
    spaced=5,
    cpu_tasks=10,
    sync_tasks=32,
    small=5,
    office=3,
    pages=2,
    scan_pages=2,
    long_pages=6,
    health=100,
    first=1,
    memory_tasks=6,
    queue_tasks=100,
    pictures=2,
    journal_tasks=50,
    isolation=2,
)


@dataclass
class Bench:
    """What every measure works with. Each side may run ``workers`` conversions concurrently."""

    ours: Product
    peer: Product
    inputs: Inputs
    scale: Scale
    workers: int
    results: Results = field(default_factory=Results)


def as_it_comes(product: Product) -> dict[str, str]:
    """Default settings, subprocess mode on."""
    return {"use_subprocess": "true"} if product.is_ours else {}


def nothing_kept() -> dict[str, str]:
    """Default settings, but no process is kept ready between tasks."""
    return {"use_subprocess": "true", "subprocess_prewarm": "0"}


def watched(settings: dict[str, str]) -> dict[str, str]:
    """``settings`` with ``GET /v1/workers`` open."""
    return {**settings, "enable_management_endpoints": "true"}


def loaded(product: Product, workers: int) -> dict[str, str]:
    """Models stay loaded between tasks on both sides; ``workers`` conversions at a time."""
    if not product.is_ours:
        return {"eng_loc_num_workers": str(workers)}
    return {
        "use_subprocess": "true",
        "subprocess_max_workers": str(workers),
        "free_vram_on_idle": "false",
        "subprocess_idle_timeout": "3600",
    }


def in_process() -> dict[str, str]:
    """Subprocess mode off."""
    return {"use_subprocess": "false", "eng_loc_num_workers": "1"}


def fresh(start_method: str, standby: int = 0) -> dict[str, str]:
    """A new process for every task."""
    return watched(
        {
            "use_subprocess": "true",
            "subprocess_start_method": start_method,
            "subprocess_prewarm": str(standby),
            "subprocess_max_tasks": "1",
        }
    )
