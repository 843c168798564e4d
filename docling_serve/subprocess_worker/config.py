"""How the pool and its workers are set up: frozen, plain, and independent of the settings."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Literal

StartMethod = Literal["spawn", "forkserver"]


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker needs to know at its start; small and picklable."""

    converter_config: dict[str, Any] = field(default_factory=dict)
    log_level: str = "INFO"
    log_format: str = "text"
    #: CPU threads a worker may use for models; 0 leaves the libraries' defaults.
    threads: int = 0
    #: Environment variables that a worker must not have, by name prefix.
    drop_env: tuple[str, ...] = ("DOCLING_SERVE_", "UVICORN_")


@dataclass(frozen=True)
class WorkerPoolConfig:
    """Limits of a pool. Times are seconds."""

    max_workers: int = 1
    start_method: StartMethod = "spawn"
    #: Standby processes kept ready: imports done, no GPU memory.
    prewarm: int = 0
    #: How long a worker with models loaded may be idle; 0 ends it as soon as nothing waits.
    idle_timeout_s: float = 0.0
    #: Jobs a worker may run before it is replaced; 0 for no limit.
    max_tasks: int = 0
    #: How long a start may take, imports included.
    start_timeout_s: float = 120.0
    #: How long a worker may take to end after being asked.
    stop_grace_s: float = 5.0
    #: How long after SIGTERM until SIGKILL.
    term_grace_s: float = 1.0
    #: How long after SIGKILL until a worker counts as lost.
    kill_wait_s: float = 10.0
    #: How long to wait for the device to give memory back after an exit.
    release_wait_s: float = 5.0
    worker: WorkerConfig = field(default_factory=WorkerConfig)


def threads_per_worker(max_workers: int) -> int:
    """The processors this process may use, divided among the workers."""
    return max(1, len(os.sched_getaffinity(0)) // max_workers)
