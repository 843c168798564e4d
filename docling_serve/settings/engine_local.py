"""Settings that choose the engine, and those of the local one."""

from pydantic import BaseModel, ByteSize, Field

from .types import AsyncEngine


class LocalEngineSettings(BaseModel):
    """Where tasks run, and how many at a time in the local engine."""

    eng_kind: AsyncEngine = Field(
        default=AsyncEngine.LOCAL,
        description="Engine that runs the tasks: local (this server), rq (workers fed by Redis) or"
        " ray (a Ray cluster).",
    )
    eng_loc_num_workers: int = Field(
        default=2,
        description="Tasks the local engine runs at the same time, in threads. In subprocess mode"
        " subprocess_max_workers applies instead.",
    )
    eng_loc_share_models: bool = Field(
        default=False,
        description="Let the threads of the local engine share loaded models.",
    )
    eng_loc_max_attempts: int = Field(
        default=3,
        ge=1,
        description="How often the local engine starts a task whose run was interrupted by the end"
        " of the server. Applies only with scratch_path, which keeps tasks over a restart.",
    )
    eng_loc_max_queued_tasks: int = Field(
        default=10_000,
        ge=0,
        description="Tasks that may wait in the local engine; more are refused with 429 and a"
        " Retry-After. 0: no limit.",
    )
    eng_loc_max_queued_bytes: ByteSize = Field(
        default=ByteSize(20 * 1000**3),
        description="Bytes of uploads of waiting tasks, for example 20GB; more are refused"
        " with 429. 0: no limit.",
    )
    eng_loc_max_queue_age: float = Field(
        default=24 * 3600.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds a task may wait for its turn; then it fails. 0: no limit.",
    )
    eng_loc_max_result_age: float = Field(
        default=7 * 24 * 3600.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds after which a finished task and its result are removed, read or not."
        " 0: no limit.",
    )
    eng_loc_max_results_bytes: ByteSize = Field(
        default=ByteSize(20 * 1000**3),
        description="Total bytes of stored results; beyond that the oldest are removed, starting"
        " with those that were read. 0: no limit.",
    )
    result_cache: bool = Field(
        default=False,
        description="Answer a request with the result of an earlier one of the same tenant with the"
        " same documents and options. Applies to uploads and base64 whose result goes into the"
        " answer.",
    )
    result_cache_max_bytes: ByteSize = Field(
        default=ByteSize(5 * 1000**3),
        description="Bytes of results kept for result_cache; beyond that the least recently used"
        " are removed. 0: no limit.",
    )
    result_cache_max_age: float = Field(
        default=24 * 3600.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds after which a cached result is no longer used. 0: no limit.",
    )
