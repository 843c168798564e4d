"""Settings of the Ray actors: replicas, scaling, and the CPU and memory asked for."""

from pydantic import BaseModel, Field

from .types import called


class RayActorSettings(BaseModel):
    """Replicas of converters and coordinators on Ray, their scaling, and what they ask for."""

    eng_ray_min_actors: int = Field(default=1, description="Minimum number of converter replicas.")
    eng_ray_max_actors: int = Field(default=10, description="Maximum number of converter replicas.")
    eng_ray_target_requests_per_replica: float = Field(
        default=1.0, gt=0, description="Target number of requests per converter replica."
    )
    eng_ray_max_ongoing_requests_per_replica: int | None = Field(
        default=None,
        description="Maximum requests per converter replica. Unset: the scaling target.",
    )
    eng_ray_converter_max_replicas_per_node: int | None = Field(
        default=None, description="Maximum converter replicas per Ray node. Unset: no limit."
    )
    eng_ray_upscale_delay_s: float = Field(
        default=30.0, description="Seconds of load before replicas are added."
    )
    eng_ray_downscale_delay_s: float = Field(
        default=600.0, description="Seconds of quiet before replicas are removed."
    )
    eng_ray_graceful_shutdown_wait_loop_s: float | None = Field(
        default=None,
        description="Seconds between two checks whether a stopping replica has finished. Unset:"
        " Ray's default.",
    )
    eng_ray_graceful_shutdown_timeout_s: float | None = Field(
        default=None,
        description="Seconds a stopping replica may take; then it is killed. Unset: Ray's default.",
    )
    eng_ray_converter_actor_num_cpus: float = Field(
        default=1.0,
        json_schema_extra=called(
            "eng_ray_converter_actor_num_cpus",
            "eng_ray_num_cpus_per_actor",
            deprecated=("eng_ray_num_cpus_per_actor",),
        ),
        description="CPUs that Ray reserves per converter replica.",
    )
    eng_ray_converter_actor_memory_request: str | None = Field(
        default=None,
        json_schema_extra=called(
            "eng_ray_converter_actor_memory_request",
            "eng_ray_memory_limit_per_actor",
            deprecated=("eng_ray_memory_limit_per_actor",),
        ),
        description="Memory that Ray reserves per converter replica, for example 8GB or 8Gi."
        " Unset: none.",
    )
    eng_ray_recycle_converter_on_abandoned_conversion: bool = Field(
        default=True,
        description="Replace a converter replica in which a cancelled conversion keeps running.",
    )
    eng_ray_abandoned_conversion_grace_s: float | None = Field(
        default=None,
        description="Seconds a cancelled conversion may keep running before its replica is"
        " replaced. Unset: the document's time limit plus 60 s.",
    )
    eng_ray_coordinator_min_actors: int | None = Field(
        default=None, description="Minimum coordinator replicas. Unset: as for converters."
    )
    eng_ray_coordinator_max_actors: int | None = Field(
        default=None, description="Maximum coordinator replicas. Unset: as for converters."
    )
    eng_ray_coordinator_target_requests_per_replica: float | None = Field(
        default=None,
        gt=0,
        description="Target number of requests per coordinator replica. Unset: the greater of"
        " the converters' value and the limit below.",
    )
    eng_ray_coordinator_max_ongoing_requests_per_replica: int = Field(
        default=8, description="Maximum requests per coordinator replica."
    )
    eng_ray_coordinator_max_replicas_per_node: int | None = Field(
        default=None, description="Maximum coordinator replicas per Ray node. Unset: no limit."
    )
    eng_ray_coordinator_actor_num_cpus: float = Field(
        default=0.25, description="CPUs that Ray reserves per coordinator replica."
    )
    eng_ray_coordinator_actor_memory_request: str | None = Field(
        default=None,
        description="Memory that Ray reserves per coordinator replica, for example 1GB. Unset: as"
        " for converters.",
    )
    eng_ray_dispatcher_num_cpus: float = Field(
        default=0.25, description="CPUs that Ray reserves for the dispatcher."
    )
    eng_ray_dispatcher_memory_request: str | None = Field(
        default=None,
        description="Memory that Ray reserves for the dispatcher, for example 256MB. Unset: none.",
    )
    eng_ray_object_store_memory: str | None = Field(
        default=None,
        description="Size of Ray's object store, for example 10GB. Unset: Ray's default.",
    )
    eng_ray_enable_oom_protection: bool = Field(
        default=True, description="Monitor the memory of converter replicas."
    )
    eng_ray_memory_warning_threshold: float = Field(
        default=0.9, description="Share of a replica's memory (0 to 1) above which it warns."
    )
