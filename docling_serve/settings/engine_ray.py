"""Settings of the Ray engine: cluster, Redis, queue, limits, retries, time limits, metrics."""

from pathlib import Path

from pydantic import BaseModel, Field

from .types import JsonObject, Secret


class RayEngineSettings(BaseModel):
    """Tasks queued in Redis and run on a Ray cluster, with limits per tenant."""

    eng_ray_address: str = Field(
        default="",
        description="Address of the Ray cluster; auto or local lets Ray decide. Required for this"
        " engine.",
    )
    eng_ray_namespace: str = Field(
        default="docling", description="Ray namespace that the engine's actors live in."
    )
    eng_ray_runtime_env: JsonObject = Field(
        default=None, description="Ray runtime environment for the actors, as a JSON object."
    )
    eng_ray_enable_mtls: bool = Field(
        default=False, description="Connect to the Ray cluster with mutual TLS."
    )
    eng_ray_cluster_name: str | None = Field(
        default=None, description="Cluster to make the TLS certificates for. Required for mTLS."
    )
    eng_ray_redis_url: Secret = Field(
        default="",
        description="URL of Redis, for example redis://localhost:6379/. Required for this engine.",
    )
    eng_ray_redis_max_connections: int = Field(
        default=50, description="Connections one process may hold to Redis."
    )
    eng_ray_redis_socket_timeout: float | None = Field(
        default=None, description="Seconds a Redis socket may stay silent. Unset: no limit."
    )
    eng_ray_redis_socket_connect_timeout: float | None = Field(
        default=None, description="Seconds connecting to Redis may take. Unset: no limit."
    )
    eng_ray_redis_operation_timeout: float = Field(
        default=30.0,
        description="Whole seconds without a sign of life after which a Redis connection is closed"
        " (on Linux). For a Redis that is only slow see eng_ray_redis_socket_timeout.",
    )
    eng_ray_redis_gate_concurrency: int | None = Field(
        default=None,
        description="Redis operations that requests may run at once. Unset: all connections but"
        " the reserved ones.",
    )
    eng_ray_redis_gate_reserved_connections: int = Field(
        default=10, description="Connections kept for the engine's own work."
    )
    eng_ray_redis_gate_wait_timeout: float = Field(
        default=0.25,
        description="Seconds a request waits for its turn at Redis; then the reply is 503.",
    )
    eng_ray_redis_gate_status_poll_wait_timeout: float = Field(
        default=5.0, description="The same wait, in seconds, for status requests."
    )
    eng_ray_results_prefix: str = Field(
        default="docling:ray:results", description="Prefix of the Redis keys of results."
    )
    eng_ray_results_ttl: int = Field(
        default=14_400, description="Seconds that results stay in Redis."
    )
    eng_ray_task_metadata_ttl: int | None = Field(
        default=604_800,
        description="Seconds that metadata of a finished task stay in Redis. 0: forever.",
    )
    eng_ray_sub_channel: str = Field(
        default="docling:ray:updates", description="Redis channel for progress updates."
    )
    eng_ray_dispatcher_interval: float = Field(
        default=30.0,
        description="Seconds between two searches of the dispatcher for lost tasks, and between two"
        " writes of its heartbeat. It wakes for new work at once.",
    )
    eng_ray_supervisor_poll_interval: float = Field(
        default=5.0, description="Seconds between two health checks of the dispatcher."
    )
    eng_ray_dispatcher_rpc_timeout: float = Field(
        default=5.0, description="Seconds the dispatcher may take to answer a health check."
    )
    eng_ray_liveness_fail_after: float = Field(
        default=90.0,
        description="Seconds of being unhealthy after which /livez fails and the pod is restarted.",
    )
    eng_ray_enable_heartbeat: bool = Field(
        default=True, description="Let the dispatcher write a heartbeat while tasks run."
    )
    eng_ray_max_concurrent_tasks: int = Field(
        default=5,
        description="Tasks per tenant that run at the same time. A tenant keeps the value of its"
        " first task, in Redis.",
    )
    eng_ray_max_queued_tasks: int | None = Field(
        default=None,
        description="Tasks per tenant that may wait. Unset: no limit. A tenant keeps the value of"
        " its first task, in Redis.",
    )
    eng_ray_enable_queue_limit_rejection: bool = Field(
        default=False, description="Answer 429 when a tenant's queue is full."
    )
    eng_ray_max_documents: int | None = Field(
        default=None,
        description="Documents per tenant converted at once; a task that has more runs alone."
        " Unset: no limit. A tenant keeps the value of its first task, in Redis.",
    )
    eng_ray_enable_document_limits: bool = Field(
        default=False, description="Has no effect: eng_ray_max_documents applies where it is set."
    )
    eng_ray_enable_pdf_page_slice_fanout: bool = Field(
        default=False, description="Has no effect: see subprocess_page_fanout."
    )
    eng_ray_max_page_slice_size: int = Field(
        default=32, description="Has no effect: see subprocess_page_fanout."
    )
    eng_ray_max_page_slice_parallelism: int | None = Field(
        default=None,
        description="Has no effect: see subprocess_page_fanout.",
    )
    eng_ray_max_task_retries: int = Field(
        default=3, ge=0, description="How often a task runs again after its actor or node was lost."
    )
    eng_ray_retry_delay: float = Field(
        default=5.0,
        description="Seconds between the loss of an actor and the next try of its task.",
    )
    eng_ray_max_document_retries: int = Field(
        default=2, description="Has no effect: see subprocess_retries."
    )
    eng_ray_dispatcher_max_restarts: int = Field(
        default=-1, description="How often Ray restarts the dispatcher. -1: without limit."
    )
    eng_ray_dispatcher_max_task_retries: int = Field(
        default=3, description="How often Ray repeats a call to the dispatcher that failed."
    )
    eng_ray_task_timeout: float | None = Field(
        default=3600.0, description="Seconds a task may take. An empty value means no limit."
    )
    eng_ray_document_timeout: float | None = Field(
        default=300.0,
        description="Seconds a document may take in a task that has no document_timeout. The server"
        " gives max_document_timeout to a request without one, so this applies only if that is inf,"
        " and to tasks that a docling-jobkit gateway queued. An empty value means no limit.",
    )
    eng_ray_converter_request_timeout: float | None = Field(
        default=None,
        description="Has no effect: see eng_ray_task_timeout.",
    )
    eng_ray_scratch_dir: Path | None = Field(
        default=None,
        description="Directory for temporary files of the actors. Unset: the system's.",
    )
    eng_ray_log_level: str = Field(
        default="INFO", description="Log level of the actors: DEBUG, INFO, WARNING or ERROR."
    )
    eng_ray_generate_metrics: bool = Field(
        default=False,
        description="Let a cluster that the server itself starts (eng_ray_address=local) serve"
        " Ray's Prometheus metrics.",
    )
    eng_ray_metrics_port: int = Field(default=8090, description="Port for these metrics.")
    eng_ray_tenant_metrics_refresh_interval: float = Field(
        default=30.0, gt=0, description="Seconds between two updates of the metrics per tenant."
    )
