"""The composition root of processes on a Ray cluster. A gateway passes these functions to its
actors, which import them by name, so this module imports nothing of docling."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING

from docling_serve.observability.logging import configure_logging
from docling_serve.running.entering import enter_mode, stay_light
from docling_serve.running.gate import load_models, run_request
from docling_serve.running.runtime import Runtime
from docling_serve.settings import DoclingServeSettings

if TYPE_CHECKING:
    from docling_serve.engines.ray.host_parts import HostParts

_log = logging.getLogger(__name__)

_BETWEEN_TASKS_S = 1.0


def prepare_dispatcher(settings: DoclingServeSettings) -> None:
    """Set up the process that gives tasks to actors."""
    configure_logging(settings.eng_ray_log_level, settings.log_format.value)
    stay_light()


def compose_task_actor(settings: DoclingServeSettings) -> HostParts:
    """Set up a process that runs tasks, and return what it runs them with: the same gate and the
    same pool as in a server with the local engine."""
    configure_logging(settings.eng_ray_log_level, settings.log_format.value)
    runtime = Runtime.decide(_threads_for_actor(settings), for_workers=_pool_for_actor)
    enter_mode(runtime)
    from docling_serve.engines.ray.host_parts import HostParts  # noqa: PLC0415 - imports docling

    return HostParts(
        gate=functools.partial(run_request, runtime=runtime),
        prepare=functools.partial(_get_ready, runtime),
        runner=runtime.runner,
        guardian=runtime.guardian,
    )


def _threads_for_actor(settings: DoclingServeSettings) -> DoclingServeSettings:
    return settings.model_copy(
        update={
            "eng_loc_num_workers": settings.eng_ray_tasks_per_actor,
            "scratch_path": settings.eng_ray_scratch_dir,
        }
    )


def _pool_for_actor(settings: DoclingServeSettings) -> DoclingServeSettings:
    """The pool does not see whether another task waits in Redis, so its worker processes stay for
    the moment that fetching the next task takes."""
    changes: dict[str, object] = {"subprocess_max_workers": settings.eng_ray_tasks_per_actor}
    if settings.frees_vram_on_idle(True):
        changes |= {"free_vram_on_idle": False, "subprocess_idle_timeout": _BETWEEN_TASKS_S}
    return settings.model_copy(update=changes)


async def _get_ready(runtime: Runtime) -> None:
    """Get ready for tasks. An actor that fails to still starts things on demand."""
    try:
        if runtime.subprocess_mode:
            await asyncio.gather(load_models(runtime), runtime.runner.warm_up())
        elif runtime.settings.load_models_at_boot and not runtime.frees_vram_on_idle:
            await load_models(runtime)
    except Exception:  # noqa: BLE001 - a task says what is wrong, and to its client
        _log.exception("nothing is ready before the first task")
