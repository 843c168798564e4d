"""Settings of the engine that queues tasks in Redis for separate workers."""

from pydantic import BaseModel, Field

from .types import Secret


class RqEngineSettings(BaseModel):
    """Tasks queued in Redis (RQ) and run by `docling-serve rq-worker` processes."""

    eng_rq_redis_url: Secret = Field(
        default="",
        description="URL of Redis, for example redis://localhost:6379/. Required for this engine.",
    )
    eng_rq_queue_name: str = Field(
        default="convert",
        description="Queue names separated by commas: the API fills the first, workers drain all"
        " in this order.",
    )
    eng_rq_workers: int | None = Field(
        default=None,
        ge=1,
        description="Tasks that one `rq-worker` process runs at the same time, on all GPUs of its"
        " host; `--workers` takes precedence. With it set, subprocess_light_workers tasks that"
        " need no models run beside them. Unset: one task at a time, of any kind.",
    )
    eng_rq_max_attempts: int = Field(
        default=3,
        ge=1,
        description="How often a task is started whose rq-worker was lost with it, for example with"
        " its host. After that it fails; 1: at the first loss.",
    )
    eng_rq_results_prefix: str = Field(
        default="docling:results", description="Prefix of the Redis keys of results."
    )
    eng_rq_sub_channel: str = Field(
        default="docling:updates", description="Redis channel on which workers report progress."
    )
    eng_rq_results_ttl: int = Field(
        default=14_400, description="Seconds that results stay in Redis."
    )
    eng_rq_failure_ttl: int = Field(
        default=14_400, description="Seconds that failed jobs stay in Redis."
    )
    eng_rq_job_timeout: int = Field(
        default=14_400, description="Seconds after which RQ kills a job. -1: never."
    )
    eng_rq_redis_max_connections: int = Field(
        default=50,
        description="Connections this process may hold to Redis. "
        "An rq-worker raises it to twice its workers and 10 more.",
    )
    eng_rq_redis_socket_timeout: float | None = Field(
        default=None, description="Seconds one Redis operation may take. Unset: no limit."
    )
    eng_rq_redis_socket_connect_timeout: float | None = Field(
        default=None, description="Seconds connecting to Redis may take. Unset: no limit."
    )
    eng_rq_redis_health_check_interval: float = Field(
        default=30.0, description="Seconds of idleness after which a connection is tested."
    )
    eng_rq_redis_gate_concurrency: int | None = Field(
        default=None,
        description="Redis operations that requests may run at once. Unset: all connections but"
        " the reserved ones.",
    )
    eng_rq_redis_gate_reserved_connections: int = Field(
        default=10, description="Connections kept for the engine's own work."
    )
    eng_rq_redis_gate_wait_timeout: float = Field(
        default=0.25,
        description="Seconds a request waits for its turn at Redis; then the reply is 503.",
    )
    eng_rq_redis_gate_status_poll_wait_timeout: float = Field(
        default=5.0, description="The same wait, in seconds, for status requests."
    )
    eng_rq_zombie_reaper_interval: float = Field(
        default=300.0, description="Seconds between two searches for finished tasks to forget."
    )
    eng_rq_zombie_reaper_max_age: float = Field(
        default=3600.0, description="Seconds after its end when a task is forgotten."
    )

    @property
    def eng_rq_queue_names(self) -> list[str]:
        """The queues in order, at least one; blanks dropped."""
        names = [name.strip() for name in self.eng_rq_queue_name.split(",")]
        return [name for name in names if name] or ["convert"]
