"""Memory of the server process and its workers, for finding leaks.

Disabled unless the settings enable it, and then behind the API key, if there is one.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from typing import Any

import psutil
from fastapi import APIRouter, Depends, HTTPException

from docling_serve.api.dependencies import RequireApiKey, ServicesDep
from docling_serve.api.services import Services
from docling_serve.process.control_group import read_number, read_table

_MIB = 1024 * 1024
_TOP_TYPES = 20  # upstream B18


def require_open(services: ServicesDep) -> None:
    """Raises ``HTTPException``: 403, the settings keep these routes closed."""
    if not services.settings.enable_management_endpoints:
        raise HTTPException(
            403,  # spelling as upstream B18
            "Forbidden. The server is configured for not showing internal managament details.",
        )


router = APIRouter(
    prefix="/v1", tags=["management"], dependencies=[Depends(require_open), RequireApiKey]
)


@router.get("/memory/stats")
async def memory_stats() -> Any:
    """Memory in MiB: of this process, of its worker processes, and of the whole container.

    The container's figures are null where the system keeps none (cgroup version 2).
    """
    return await asyncio.to_thread(_stats)


@router.get("/memory/counts")
async def memory_counts() -> Any:
    """Count the objects that the interpreter tracks, by type. Collects no garbage."""
    tasks = asyncio.all_tasks()
    counted = await asyncio.to_thread(_counts)
    pending = sum(not task.done() for task in tasks)
    return {**counted, "asyncio": {"all_tasks": len(tasks), "pending_tasks": pending}}


@router.get("/workers")
async def workers(services: ServicesDep) -> dict[str, Any]:
    """The worker processes: state, pid, memory, task and last reason of each, the most recently
    exited ones, and the sums over all tasks so far. Times are seconds, sizes bytes.

    The last output of an exited worker may name documents of any client, so ``last_output`` is
    empty unless ``debug_error_details`` is on."""
    if services.describe_workers is None:
        raise HTTPException(
            404,
            "There are no worker processes: subprocess mode is off, or tasks run in other"
            " processes.",
        )
    described = visible_workers(services)
    assert described is not None
    return described


def visible_workers(services: Services) -> dict[str, Any] | None:
    """The pool as operators may see it; None where tasks do not run in worker processes."""
    if services.describe_workers is None:
        return None
    described = services.describe_workers()
    if not services.settings.debug_error_details:
        described["ended"] = [{**worker, "last_output": []} for worker in described["ended"]]
    return described


def _stats() -> dict[str, float | None]:
    process = psutil.Process()
    workers = 0
    for child in process.children(recursive=True):
        try:
            workers += child.memory_info().rss
        except psutil.NoSuchProcess:  # it exited while we counted
            continue
    container = read_table("memory.stat")
    sizes = {
        "rss": process.memory_info().rss,
        "workers_rss": workers,
        "anon": container.get("anon"),
        "file": container.get("file"),
        "slab": container.get("slab"),
        "cgroup_total": read_number("memory.current"),
    }
    return {name: None if size is None else round(size / _MIB, 1) for name, size in sizes.items()}


def _counts() -> dict[str, Any]:
    types = Counter(type(tracked).__name__ for tracked in gc.get_objects())
    return {
        "gc": {"counts": list(gc.get_count()), "threshold": list(gc.get_threshold())},
        "objects": {"total": types.total()},
        "top_types": [
            {"type": name, "count": count} for name, count in types.most_common(_TOP_TYPES)
        ],
    }
