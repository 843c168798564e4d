"""Conversion in worker processes: the only part of the server that starts and stops them."""

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
