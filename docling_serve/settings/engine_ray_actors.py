"""Settings of the Ray actors: how many, scaling, and the CPUs, GPUs and memory they reserve."""

import math

from pydantic import BaseModel, Field

from .types import called


class RayActorSettings(BaseModel):
    """Actors on Ray that run tasks in a worker pool: how many there are, what they reserve."""

    eng_ray_min_actors: int = Field(
        default=1, description="Minimum number of actors that run tasks."
    )
    eng_ray_max_actors: int = Field(
        default=10, description="Maximum number of actors that run tasks."
    )
    eng_ray_target_requests_per_replica: float = Field(
        default=1.0,
        gt=0,
        description="Target number of tasks per actor, from which their number follows.",
    )
    eng_ray_max_ongoing_requests_per_replica: int | None = Field(
        default=None,
        ge=1,
        description="Tasks that one actor runs at once, each in a worker process of its own. Unset:"
        " the target above, rounded up.",
    )
    eng_ray_converter_max_replicas_per_node: int | None = Field(
        default=None,
        ge=1,
        description="Maximum actors that run tasks per Ray node. Unset: no limit.",
    )
    eng_ray_upscale_delay_s: float = Field(
        default=30.0,
        description="Seconds of load before actors are added. The first one is added at once.",
    )
    eng_ray_downscale_delay_s: float = Field(
        default=600.0, description="Seconds without a task before an actor exits."
    )
    eng_ray_graceful_shutdown_wait_loop_s: float | None = Field(
        default=None,
        description="Has no effect: only actors without a task are stopped.",
    )
    eng_ray_graceful_shutdown_timeout_s: float | None = Field(
        default=None,
        description="Has no effect: only actors without a task are stopped.",
    )
    eng_ray_converter_actor_num_cpus: float = Field(
        default=1.0,
        json_schema_extra=called(
            "eng_ray_converter_actor_num_cpus",
            "eng_ray_num_cpus_per_actor",
            deprecated=("eng_ray_num_cpus_per_actor",),
        ),
        description="CPUs that Ray reserves per actor that runs tasks.",
    )
    eng_ray_converter_actor_num_gpus: float | None = Field(
        default=None,
        ge=0,
        description="GPUs that Ray reserves per actor that runs tasks; 0.5 lets two actors share"
        " one, 0 hides all GPUs. Unset: 1 if the cluster has a GPU, else 0. This is Ray's"
        " bookkeeping: in subprocess mode an actor without a task holds no GPU memory.",
    )
    eng_ray_converter_actor_memory_request: str | None = Field(
        default=None,
        json_schema_extra=called(
            "eng_ray_converter_actor_memory_request",
            "eng_ray_memory_limit_per_actor",
            deprecated=("eng_ray_memory_limit_per_actor",),
        ),
        description="Memory that Ray reserves per actor that runs tasks, for example 8GB or 8Gi."
        " Unset: none.",
    )
    eng_ray_recycle_converter_on_abandoned_conversion: bool = Field(
        default=True,
        description="Has no effect: the worker process of a cancelled conversion is stopped.",
    )
    eng_ray_abandoned_conversion_grace_s: float | None = Field(
        default=None,
        description="Has no effect: the worker process of a cancelled conversion is stopped.",
    )
    eng_ray_coordinator_min_actors: int | None = Field(
        default=None, description="Has no effect: there are no coordinators."
    )
    eng_ray_coordinator_max_actors: int | None = Field(
        default=None, description="Has no effect: there are no coordinators."
    )
    eng_ray_coordinator_target_requests_per_replica: float | None = Field(
        default=None,
        gt=0,
        description="Has no effect: there are no coordinators.",
    )
    eng_ray_coordinator_max_ongoing_requests_per_replica: int = Field(
        default=8, description="Has no effect: there are no coordinators."
    )
    eng_ray_coordinator_max_replicas_per_node: int | None = Field(
        default=None, description="Has no effect: there are no coordinators."
    )
    eng_ray_coordinator_actor_num_cpus: float = Field(
        default=0.25, description="Has no effect: there are no coordinators."
    )
    eng_ray_coordinator_actor_memory_request: str | None = Field(
        default=None,
        description="Has no effect: there are no coordinators.",
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
        description="Size of Ray's object store, for example 10GB, for a cluster that the server"
        " itself starts (eng_ray_address=local). Unset: Ray's default.",
    )
    eng_ray_enable_oom_protection: bool = Field(
        default=True,
        description="Has no effect: see subprocess_max_rss and subprocess_memory_limit.",
    )
    eng_ray_memory_warning_threshold: float = Field(
        default=0.9,
        description="Has no effect: see subprocess_max_rss and subprocess_memory_limit.",
    )

    @property
    def eng_ray_tasks_per_actor(self) -> int:
        """How many tasks one actor runs at the same time."""
        limit = self.eng_ray_max_ongoing_requests_per_replica
        return limit or max(1, math.ceil(self.eng_ray_target_requests_per_replica))
