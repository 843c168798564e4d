"""How the pool and its workers are set up: frozen, plain, and independent of the settings."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Literal

from docling_serve.sandbox.plan import SandboxPlan

StartMethod = Literal["spawn", "forkserver"]


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker needs to know when it starts; small and picklable."""

    converter_config: dict[str, Any] = field(default_factory=dict)
    log_level: str = "INFO"
    log_format: str = "text"
    #: CPU threads a worker may use for models; 0 keeps the libraries' defaults.
    threads: int = 0
    #: Added to the niceness of the server, 0 to 19.
    nice: int = 0
    #: Environment variables a worker keeps in addition to the usual ones, by exact name.
    pass_env: tuple[str, ...] = ()
    #: Whether it keeps the memory that conversions free while it works.
    keep_freed_memory: bool = True
    #: Whether it imports torch before a job needs it.
    preload_torch: bool = False
    #: What the kernel is to deny it.
    sandbox: SandboxPlan = field(default_factory=SandboxPlan)


@dataclass(frozen=True)
class WorkerPoolConfig:
    """Limits of a pool. Times are seconds, sizes bytes; 0 means no limit where that makes sense."""

    max_workers: int = 1
    #: Additional workers for jobs without models; 0 makes such jobs wait like others.
    light_workers: int = 1
    #: How long a job without models may take for each of its documents.
    light_timeout_s: float = 0.0
    start_method: StartMethod = "spawn"
    #: Standby processes kept ready: imports done, no GPU memory.
    prewarm: int = 0
    #: How long a standby process beyond these is kept, if any are kept.
    spare_timeout_s: float = 60.0
    #: How long a worker with models loaded may be idle; 0 ends it as soon as nothing waits.
    idle_timeout_s: float = 0.0
    #: How long one that can rest instead may be idle: its models are in host memory only.
    rest_after_s: float = 3.0
    #: How long a job waits for a worker that is about to be free before another is started.
    patience_s: float = 0.25
    #: Jobs a worker may run before it is replaced.
    max_tasks: int = 0
    #: Memory of a worker and its children above which it is replaced after its job.
    max_rss_bytes: int = 0
    #: Device memory of a worker above which it is replaced after its job.
    max_vram_bytes: int = 0
    #: How much more than after its first job a worker may hold after a job before it is replaced.
    max_growth_bytes: int = 0
    #: Memory of a worker and its children at which it is killed in mid-job.
    memory_limit_bytes: int = 0
    #: Pages of a PDF that one worker converts while others convert more of them; 0 cuts nothing.
    page_fanout: int = 0
    #: How often a job is retried when its worker was lost.
    retries: int = 1
    #: How long a running job may show no progress.
    stall_timeout_s: float = 0.0
    #: How long a start may take, imports included (not those of the fork template).
    start_timeout_s: float = 120.0
    #: How long after a failed start until the next; doubled after each further failure.
    start_backoff_s: float = 1.0
    #: How long a worker may take to exit after being asked.
    stop_grace_s: float = 5.0
    #: How long after SIGTERM until SIGKILL.
    term_grace_s: float = 0.5
    #: How long after SIGKILL until a worker counts as lost.
    kill_wait_s: float = 10.0
    worker: WorkerConfig = field(default_factory=WorkerConfig)

    @property
    def fans_out(self) -> bool:
        """Whether long PDFs are cut into slices for several workers."""
        return self.page_fanout > 0 and self.max_workers > 1


def threads_per_worker(max_workers: int) -> int:
    """The processors that this process may use, divided among the workers."""
    return max(1, len(os.sched_getaffinity(0)) // max_workers)
