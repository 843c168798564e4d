"""How docling-jobkit's ``ray`` orchestrator keeps its tasks in Redis.

===================================  =========================================================
``task:<id>``                        hash, a ``RedisTaskMetadata``
``tenant:<tenant>:tasks``            list of the waiting tasks, as JSON
``<prefix>:task:<id>:result``        msgpack of how the task ended
===================================  =========================================================

Every function raises ``redis.RedisError`` when Redis cannot be reached.

Read from docling-jobkit 3.9.1 (``docling_jobkit.orchestrators.ray.redis_helper``).
Guarded by tests/unit/engines/ray/test_engine.py and tests/integration/test_ray.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from docling_jobkit.orchestrators.ray.models import RedisTaskMetadata
from docling_jobkit.orchestrators.ray.redis_helper import RedisStateManager

_TASK = "task:"

#: Searches the queue inside Redis: its entries hold whole documents. Ids are random, so an entry
#: that contains one belongs to that task.
_WITHDRAW = """
for index = 0, redis.call('LLEN', KEYS[1]) - 1 do
  local entry = redis.call('LINDEX', KEYS[1], index)
  if entry and string.find(entry, ARGV[1], 1, true) then
    redis.call('LREM', KEYS[1], 1, entry)
    redis.call('HINCRBY', KEYS[2], 'queued_tasks', -1)
    return 1
  end
end
return 0
"""


def updates_connection(state: RedisStateManager) -> Any:
    """A separate connection for the channel of task updates."""
    return state._build_pubsub_redis()


async def task_ids(state: RedisStateManager) -> AsyncIterator[str]:
    """The ids of all tasks."""
    async for key in state._ensure_redis().scan_iter(match=f"{_TASK}*", count=500):
        task_id = key.decode().removeprefix(_TASK)
        if ":" not in task_id:
            yield task_id


async def expire(state: RedisStateManager, task_id: str, within_s: int) -> None:
    """Have Redis drop the task and its result after ``within_s`` seconds, at least one."""
    redis = state._ensure_redis()
    for key in _keys(state, task_id):
        await redis.expire(key, max(1, within_s), lt=True)


async def delete(state: RedisStateManager, task_id: str) -> None:
    """Drop the task and its result."""
    await state._ensure_redis().delete(*_keys(state, task_id))


async def withdraw(state: RedisStateManager, task: RedisTaskMetadata) -> None:
    """Remove the task from its tenant's queue, if it is there."""
    tenant = f"tenant:{task.tenant_id}"
    script = state._ensure_redis().register_script(_WITHDRAW)
    await script(keys=[f"{tenant}:tasks", f"{tenant}:limits"], args=[task.task_id])


def _keys(state: RedisStateManager, task_id: str) -> tuple[str, str]:
    return f"{_TASK}{task_id}", f"{state.results_prefix}:task:{task_id}:result"
