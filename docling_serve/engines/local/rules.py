"""The settings of the local engine, in its own terms."""

from __future__ import annotations

from dataclasses import dataclass, field

from docling_serve.engines.local.lines import QueueLimits
from docling_serve.engines.local.result_cache import CacheRules
from docling_serve.engines.local.staging import Deployment
from docling_serve.engines.local.upkeep import RetentionRules
from docling_serve.settings import DoclingServeSettings
from docling_serve.settings.converter_config import converter_config, presigned_config


@dataclass(frozen=True)
class LocalRules:
    """How the engine treats tasks.

    ``hand_over`` is how many tasks the gate may hold at a time, ``workers`` how many of them run. A
    task counts as started when its runner reports it, so one more than can run may be handed over:
    the runner then knows that work is waiting. With ``hand_over_light`` the tasks that need no
    models have a line of their own, and that many of them are handed over in addition. With
    ``keep`` the tasks that this process has not finished continue in the next one.
    """

    hand_over: int = 1
    workers: int = 1
    hand_over_light: int = 0
    workers_light: int = 0
    keep: bool = False
    max_attempts: int = 1
    limits: QueueLimits = field(default_factory=QueueLimits)
    retention: RetentionRules = field(default_factory=RetentionRules)
    deployment: Deployment = field(default_factory=Deployment)
    result_removal_delay_s: float = 300.0
    single_use_results: bool = True
    cache: CacheRules | None = None

    @classmethod
    def from_settings(
        cls, settings: DoclingServeSettings, *, pooled: bool, keep: bool
    ) -> LocalRules:
        """The rules of a server whose tasks run in a worker pool if ``pooled``, else in threads."""
        workers = settings.subprocess_max_workers if pooled else settings.eng_loc_num_workers
        light = settings.subprocess_light_workers if pooled else 0
        config = converter_config(settings)
        return cls(
            hand_over=workers + 1 if pooled else workers,
            workers=workers,
            # Tasks without models also use workers that no other task waits for.
            hand_over_light=light + workers + 1 if light else 0,
            workers_light=light + workers if light else 0,
            keep=keep,
            max_attempts=settings.eng_loc_max_attempts,
            limits=QueueLimits(
                tasks=settings.eng_loc_max_queued_tasks,
                bytes=settings.eng_loc_max_queued_bytes,
                age_s=settings.eng_loc_max_queue_age,
            ),
            retention=RetentionRules(
                max_age_s=settings.eng_loc_max_result_age,
                max_bytes=settings.eng_loc_max_results_bytes,
            ),
            deployment=Deployment(config, presigned_config(settings), settings.debug_error_details),
            cache=CacheRules.of(
                [settings.api_key, config],
                settings.result_cache_max_bytes,
                settings.result_cache_max_age,
            )
            if settings.result_cache
            else None,
            result_removal_delay_s=settings.result_removal_delay,
            single_use_results=settings.single_use_results,
        )
