"""What runs the tasks: the mode, and the workers or converters that go with it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from docling_serve.process.guardian import Guardian
from docling_serve.running.threads import InProcessConverters
from docling_serve.sandbox import grants
from docling_serve.sandbox.plan import LEFT_OPEN, LEFT_TO_OPERATOR, SandboxPlan
from docling_serve.settings import AsyncEngine, DoclingServeSettings
from docling_serve.settings.converter_config import converter_config
from docling_serve.subprocess_worker import (
    PoolRunner,
    SubprocessWorkerPool,
    WorkerConfig,
    WorkerPoolConfig,
    threads_per_worker,
)
from docling_serve.vram.admission import VramAdmission
from docling_serve.vram.admission_rules import Patience
from docling_serve.vram.mode import decide_mode
from docling_serve.vram.neighbours import configured_neighbours, unload_external_models
from docling_serve.vram.nvml import GpuProbe
from docling_serve.vram.release import ReleaseTracker
from docling_serve.vram.sampling import GpuSampler

RELEASE_WAIT_S = 5.0
#: In ``subprocess_sandbox_allow``, stands for the network instead of a folder.
NETWORK = "network"
#: Variables that keep libraries from downloading, and their values for yes (huggingface_hub).
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_YES = ("1", "ON", "YES", "TRUE")


@dataclass(frozen=True)
class Runtime:
    """Made once per server process, from the settings. Making it starts nothing."""

    settings: DoclingServeSettings
    subprocess_mode: bool
    reason: str
    #: Whether tasks run in this process or in workers of its own.
    runs_tasks: bool
    guardian: Guardian
    runner: PoolRunner | InProcessConverters
    probe: GpuProbe = field(default_factory=GpuProbe)

    @property
    def keeps_tasks(self) -> bool:
        """Whether tasks of this process outlive it, in a folder that the operator configured."""
        return self.settings.eng_kind is AsyncEngine.LOCAL and (
            self.settings.scratch_path is not None
        )

    @property
    def pool(self) -> SubprocessWorkerPool | None:
        """The worker processes of this process, if it has any."""
        return self.runner.pool if isinstance(self.runner, PoolRunner) else None

    @property
    def keeps_light(self) -> bool:
        """Whether this process can do without torch: conversions run elsewhere."""
        return self.subprocess_mode or not self.runs_tasks

    @property
    def frees_vram_on_idle(self) -> bool:
        """Whether models are dropped as soon as no task waits."""
        return self.settings.frees_vram_on_idle(self.subprocess_mode)

    @classmethod
    def decide(
        cls,
        settings: DoclingServeSettings,
        *,
        runs_tasks: bool = True,
        for_workers: Callable[[DoclingServeSettings], DoclingServeSettings] = lambda same: same,
    ) -> Runtime:
        """Decide the mode; reads the GPU's size only for ``auto``. In subprocess mode the settings
        in effect are what ``for_workers`` makes of them."""
        probe = GpuProbe()
        decision = decide_mode(settings.use_subprocess_for_ocr, probe)
        guardian = Guardian()
        runner: PoolRunner | InProcessConverters
        if decision.enabled:
            settings = for_workers(settings)
        if decision.enabled and runs_tasks:
            runner = _pool_runner(settings, probe, guardian)
        else:
            runner = InProcessConverters(
                converter_config(settings),
                settings.eng_loc_num_workers,
                settings.eng_loc_share_models,
            )
        return cls(settings, decision.enabled, decision.reason, runs_tasks, guardian, runner, probe)


def _pool_runner(settings: DoclingServeSettings, probe: GpuProbe, guardian: Guardian) -> PoolRunner:
    sampler = GpuSampler(probe)
    asks = bool(configured_neighbours(settings))
    patience_s = settings.subprocess_vram_patience
    admission = VramAdmission(
        probe,
        sampler=sampler,
        releases=ReleaseTracker(probe, RELEASE_WAIT_S, sampler=sampler),
        reserve_bytes=settings.subprocess_vram_reserve,
        patience=Patience(patience_s, patience_s + settings.subprocess_timeout),
        devices=_devices(settings),
        unload=partial(unload_external_models, settings) if asks else None,
    )
    pool = SubprocessWorkerPool(
        config=pool_config(settings),
        admission=admission,
        guardian=guardian,
    )
    return PoolRunner(pool, settings.subprocess_timeout, tells_log=settings.debug_error_details)


def _devices(settings: DoclingServeSettings) -> str:
    """The GPUs that workers may use; if that is not set, the one that docling is set to use."""
    if settings.subprocess_devices:
        return ",".join(settings.subprocess_devices)
    chosen = os.environ.get("DOCLING_DEVICE", "")
    return chosen if chosen.lower().startswith("cuda") else ""


def pool_config(settings: DoclingServeSettings) -> WorkerPoolConfig:
    """The pool that the settings describe."""
    return WorkerPoolConfig(
        max_workers=settings.subprocess_max_workers,
        start_method=settings.subprocess_start_method,
        prewarm=settings.standby_processes(),
        idle_timeout_s=settings.worker_idle_timeout_s(),
        max_tasks=settings.subprocess_max_tasks,
        light_workers=settings.subprocess_light_workers,
        light_timeout_s=settings.subprocess_light_timeout,
        page_fanout=settings.subprocess_page_fanout,
        max_rss_bytes=settings.subprocess_max_rss,
        max_vram_bytes=settings.subprocess_max_vram,
        max_growth_bytes=settings.subprocess_max_growth,
        memory_limit_bytes=settings.subprocess_memory_limit,
        retries=settings.subprocess_retries,
        stall_timeout_s=settings.subprocess_stall_timeout,
        start_timeout_s=settings.subprocess_start_timeout,
        stop_grace_s=settings.subprocess_stop_grace,
        worker=WorkerConfig(
            converter_config=converter_config(settings),
            log_level=log_level(settings),
            log_format=settings.log_format.value,
            threads=threads_per_worker(settings.subprocess_max_workers),
            nice=settings.subprocess_nice,
            sandbox=sandbox_plan(settings, os.environ),
            pass_env=tuple(settings.subprocess_pass_env or ()),
            preload_torch=settings.subprocess_preload_torch,
            keep_freed_memory=not _host_memory_is_limited(settings),
        ),
    )


def sandbox_plan(settings: DoclingServeSettings, environ: Mapping[str, str]) -> SandboxPlan:
    """What the settings allow a worker, and what its libraries need on this machine."""
    if settings.subprocess_sandbox == "off":
        return SandboxPlan(mode="off")
    allowed = settings.subprocess_sandbox_allow or []
    folders = [name for name in allowed if name != NETWORK]
    offline = any(environ.get(name, "").upper() in _YES for name in _OFFLINE)
    downloads = settings.artifacts_path is None and not offline
    stays = LEFT_TO_OPERATOR if NETWORK in allowed else LEFT_OPEN if downloads else ""
    models = [str(settings.artifacts_path)] if settings.artifacts_path else []
    return SandboxPlan(
        mode=settings.subprocess_sandbox,
        read=tuple(grants.readable(environ, [*models, *folders], _secrets(settings, environ))),
        write=tuple(grants.model_caches(environ)) if downloads else (),
        network_stays=stays,
    )


def _secrets(settings: DoclingServeSettings, environ: Mapping[str, str]) -> list[str]:
    """Paths that workers must never read: tasks and the journal, and files with keys."""
    named = (environ.get("DOCLING_SERVE_CONFIG_FILE"), environ.get("UVICORN_SSL_KEYFILE"), ".env")
    kept = settings.scratch_path or Path(tempfile.gettempdir())
    return [str(Path(path).absolute()) for path in (*named, kept) if path]


def _host_memory_is_limited(settings: DoclingServeSettings) -> bool:
    """Whether workers are limited by the memory they hold, which then must be what they need."""
    return (
        settings.subprocess_max_rss > 0
        or settings.subprocess_max_growth > 0
        or settings.subprocess_memory_limit > 0
    )


def log_level(settings: DoclingServeSettings) -> str:
    """The configured level, INFO by default."""
    return settings.log_level.value if settings.log_level else "INFO"
