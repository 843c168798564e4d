"""Settings that choose the engine, and those of the local one."""

from pydantic import BaseModel, Field

from .types import AsyncEngine


class LocalEngineSettings(BaseModel):
    """Where tasks run, and how many at a time in the local engine."""

    eng_kind: AsyncEngine = Field(
        default=AsyncEngine.LOCAL,
        description="Engine that runs the tasks: local (this server), rq (workers behind Redis) or"
        " ray (a Ray cluster).",
    )
    eng_loc_num_workers: int = Field(
        default=2,
        description="Tasks the local engine runs at the same time, in threads. In subprocess mode"
        " subprocess_max_workers counts instead.",
    )
    eng_loc_share_models: bool = Field(
        default=False,
        description="Let the threads of the local engine share loaded models.",
    )
