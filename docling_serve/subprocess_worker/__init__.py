"""Conversion in worker processes: the only part of the server that starts and stops them.

A worker imports this package for its own side. So server-side modules are imported only when they
are first requested; importing them in a worker would cost a twentieth of its start.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docling_serve.process.shared_weights import preload_models_mmap
    from docling_serve.subprocess_worker.pool.metrics import SubprocessMetrics
    from docling_serve.subprocess_worker.pool.pool import (
        SubprocessWorkerPool,
        close_worker_pool,
        get_worker_pool,
        share_worker_pool,
    )
    from docling_serve.subprocess_worker.pool.runner import PoolRunner, process_in_subprocess
    from docling_serve.subprocess_worker.pool.snapshot import PoolSnapshot, WorkerSnapshot
    from docling_serve.subprocess_worker.pool.states import StopReason, WorkerState
    from docling_serve.subprocess_worker.protocol.config import (
        StartMethod,
        WorkerConfig,
        WorkerPoolConfig,
        threads_per_worker,
    )

__all__ = [
    "PoolRunner",
    "PoolSnapshot",
    "StartMethod",
    "StopReason",
    "SubprocessMetrics",
    "SubprocessWorkerPool",
    "WorkerConfig",
    "WorkerPoolConfig",
    "WorkerSnapshot",
    "WorkerState",
    "close_worker_pool",
    "get_worker_pool",
    "preload_models_mmap",
    "process_in_subprocess",
    "share_worker_pool",
    "threads_per_worker",
]

_HOME = {
    "docling_serve.process.shared_weights": ("preload_models_mmap",),
    f"{__name__}.pool.metrics": ("SubprocessMetrics",),
    f"{__name__}.pool.pool": (
        "SubprocessWorkerPool",
        "close_worker_pool",
        "get_worker_pool",
        "share_worker_pool",
    ),
    f"{__name__}.pool.runner": ("PoolRunner", "process_in_subprocess"),
    f"{__name__}.pool.snapshot": ("PoolSnapshot", "WorkerSnapshot"),
    f"{__name__}.pool.states": ("StopReason", "WorkerState"),
    f"{__name__}.protocol.config": (
        "StartMethod",
        "WorkerConfig",
        "WorkerPoolConfig",
        "threads_per_worker",
    ),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
