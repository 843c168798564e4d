"""What docling-jobkit's ``ray`` orchestrator keeps in Redis: tasks, and the queues of tenants.

Its names, formats and transactions are used, so its metrics, dashboards and waiting tasks stay
valid. Its orchestrator, dispatcher and Serve deployments are not, and are never imported: they
import Ray Serve, docling's converters and torch.

=====================================  =======================================================
``task:<id>``                          hash, a ``RedisTaskMetadata``; with the fields of ours
                                       named below
``tenant:<tenant>:tasks``              list of the waiting tasks, as JSON without documents
``tenant:<tenant>:active_tasks``       set of the tasks that an actor has
``tenant:<tenant>:limits``             hash, how much of its limits a tenant uses
``task:<id>:dispatch``, ``:execution`` hashes of an active task: when it was dispatched and its
                                       callbacks; the actor that has it, and its last heartbeat
``<prefix>:task:<id>:result``          msgpack of how the task ended
``task:<id>:payload``                  ours: the whole task as JSON, documents included
``docling:ray:wake``                   ours: list that wakes the dispatcher
=====================================  =======================================================

Every function raises ``redis.RedisError`` when Redis cannot be reached.

Read from docling-jobkit 3.9.1 (``docling_jobkit.orchestrators.ray.redis_helper``).
Guarded by tests/unit/engines/ray and tests/integration/test_ray.py.
"""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

_PACKAGE = "docling_jobkit.orchestrators.ray"


def _leave_out_the_orchestrator() -> None:
    """Let the modules of jobkit's package be imported without the package's own code, which
    imports the orchestrator."""
    if _PACKAGE not in sys.modules:
        spec = importlib.util.find_spec(_PACKAGE)
        assert spec is not None
        sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)


_leave_out_the_orchestrator()

from docling_jobkit.datamodel.task_meta import TaskStatus  # noqa: E402
from docling_jobkit.orchestrators.ray.config import (  # noqa: E402
    RayOrchestratorConfig,
    parse_memory_bytes,
)
from docling_jobkit.orchestrators.ray.models import (  # noqa: E402
    RedisTaskMetadata,
    TaskTerminalizationResult,
    TaskUpdate,
    TenantSnapshot,
)
from docling_jobkit.orchestrators.ray.redis_helper import (  # noqa: E402
    TENANT_REGISTRY_KEY,
    InvalidQueuedTaskError,
    RedisStateManager,
)

__all__ = [
    "InvalidQueuedTaskError",
    "RayOrchestratorConfig",
    "RedisStateManager",
    "RedisTaskMetadata",
    "TaskUpdate",
    "TenantSnapshot",
    "parse_memory_bytes",
]

#: Fields of ours in a task's hash, as JSON: a ``JobProgress``, a ``JobResult``, the names of its
#: documents, and whether it needs no models.
PROGRESS, RESULT, NAMES, LIGHT = "job_progress", "job_result", "names", "light"

WAKE_KEY = "docling:ray:wake"

_TASK = "task:"

#: Entries are JSON and ids are random, so an entry that contains one belongs to that task.
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

#: KEYS: task, queue, active set, limits, dispatch, execution, payload. ARGV: id, entry, documents
#: that count towards the limit, time.
_PUT_BACK = """
local status = redis.call('HGET', KEYS[1], 'status')
local active = redis.call('SREM', KEYS[3], ARGV[1])
if active == 1 then
  redis.call('HINCRBY', KEYS[4], 'active_tasks', -1)
  if tonumber(ARGV[3]) > 0 then
    redis.call('HINCRBY', KEYS[4], 'active_documents', -ARGV[3])
  end
end
redis.call('DEL', KEYS[5], KEYS[6])
if active == 0 or not status or status == 'success' or status == 'failure' then
  return 0
end
redis.call('HSET', KEYS[1], 'status', 'pending', 'last_update_at', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'retry_count', 1)
redis.call('LPUSH', KEYS[2], ARGV[2])
redis.call('HINCRBY', KEYS[4], 'queued_tasks', 1)
redis.call('PERSIST', KEYS[7])
return 1
"""

#: Writes fields of a task that exists, and no others.
_NOTE = """
if redis.call('EXISTS', KEYS[1]) == 1 then
  return redis.call('HSET', KEYS[1], unpack(ARGV))
end
return 0
"""


class _StateManager(RedisStateManager):
    """jobkit's, which has the kernel give up a connection after so many seconds without a sign of
    life: without that a call over a broken one takes a quarter of an hour to fail. A limit for
    sockets of redis-py would not do: before Python 3.12 it can swallow a cancellation."""

    def __init__(self, silent_s: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._silent_s = max(1, int(silent_s))

    async def connect(self) -> None:
        """Make the pool of connections, if there is none."""
        await super().connect()  # type: ignore[no-untyped-call]
        if self.pool is not None:
            self._watch(self.pool)

    def _build_pubsub_redis(self) -> Any:
        redis = super()._build_pubsub_redis()
        self._watch(redis.connection_pool)
        return redis

    def _watch(self, pool: Any) -> None:
        if not self.redis_url.startswith("unix:"):
            pool.connection_kwargs.update(
                socket_keepalive=True, socket_keepalive_options=_keepalive(self._silent_s)
            )


def _keepalive(silent_s: int) -> dict[int, int]:
    """Options of a TCP socket, those that this system has."""
    often = max(1, silent_s // 3)
    wanted = {
        "TCP_KEEPIDLE": often,
        "TCP_KEEPINTVL": often,
        "TCP_KEEPCNT": 2,
        "TCP_USER_TIMEOUT": silent_s * 1000,
    }
    found = {getattr(socket, name, None): value for name, value in wanted.items()}
    return {option: value for option, value in found.items() if option is not None}


def state_manager(
    config: RayOrchestratorConfig, *, allow_external_plugins: bool
) -> RedisStateManager:
    """jobkit's access to Redis, not yet connected."""
    return _StateManager(
        config.redis_operation_timeout,
        redis_url=config.redis_url,
        results_ttl=config.results_ttl,
        task_metadata_ttl=config.task_metadata_ttl,
        results_prefix=config.results_prefix,
        sub_channel=config.sub_channel,
        max_connections=config.redis_max_connections,
        socket_timeout=config.redis_socket_timeout,
        socket_connect_timeout=config.redis_socket_connect_timeout,
        max_concurrent_tasks=config.max_concurrent_tasks,
        max_queued_tasks=config.max_queued_tasks,
        max_documents=config.max_documents,
        task_timeout=config.task_timeout,
        dispatcher_interval=config.dispatcher_interval,
        log_level=config.log_level,
        allow_external_plugins=allow_external_plugins,
    )


async def connection(state: RedisStateManager) -> Any:
    """The client of redis-py that ``state`` uses."""
    await state.connect()  # type: ignore[no-untyped-call]  # makes no second pool
    return state._ensure_redis()


def blocking_connection(state: RedisStateManager) -> Any:
    """A separate client that may wait for as long as it takes, for channels and for waking."""
    return state._build_pubsub_redis()


def task_key(task_id: str) -> str:
    """The hash of a task."""
    return f"{_TASK}{task_id}"


def payload_key(task_id: str) -> str:
    """Where the whole task is kept while it has not ended."""
    return f"{_TASK}{task_id}:payload"


def execution_key(task_id: str) -> str:
    """The hash that says which actor has the task."""
    return f"{_TASK}{task_id}:execution"


def result_key(state: RedisStateManager, task_id: str) -> str:
    """Where the result of a task is kept."""
    return f"{state.results_prefix}:task:{task_id}:result"


async def task_ids(state: RedisStateManager) -> AsyncIterator[str]:
    """The ids of all tasks."""
    redis = await connection(state)
    async for key in redis.scan_iter(match=f"{_TASK}*", count=500):
        task_id = key.decode().removeprefix(_TASK)
        if ":" not in task_id:
            yield task_id


async def note(state: RedisStateManager, task_id: str, **fields: str) -> None:
    """Write fields of a task, unless it was deleted."""
    redis = await connection(state)
    pairs = [text for pair in fields.items() for text in pair]
    await redis.register_script(_NOTE)(keys=[task_key(task_id)], args=pairs)


async def expire(state: RedisStateManager, task_id: str, within_s: int) -> None:
    """Have Redis drop the task and its result after ``within_s`` seconds, at least one."""
    redis = await connection(state)
    for key in (task_key(task_id), result_key(state, task_id)):
        await redis.expire(key, max(1, within_s), lt=True)


async def delete(state: RedisStateManager, task_id: str) -> None:
    """Drop the task and its result."""
    redis = await connection(state)
    await redis.delete(task_key(task_id), result_key(state, task_id))


async def withdraw(state: RedisStateManager, tenant: str, task_id: str) -> bool:
    """Remove the task from its tenant's queue; False if it is not there."""
    redis = await connection(state)
    keys = [f"tenant:{tenant}:tasks", f"tenant:{tenant}:limits"]
    return bool(await redis.register_script(_WITHDRAW)(keys=keys, args=[task_id]))


async def put_back(state: RedisStateManager, task: RedisTaskMetadata, entry: str, now: str) -> bool:
    """Make an active task the first of its tenant's queue again, as ``entry``; False if it has
    ended meanwhile, or was not active. In any case it is not active any more."""
    redis = await connection(state)
    tenant = f"tenant:{task.tenant_id}"
    task_id = task.task_id
    counted = task.task_size if state.max_documents is not None else 0
    done = await redis.register_script(_PUT_BACK)(
        keys=[
            task_key(task_id),
            *(f"{tenant}:tasks", f"{tenant}:active_tasks", f"{tenant}:limits"),
            *(f"{_TASK}{task_id}:dispatch", execution_key(task_id), payload_key(task_id)),
        ],
        args=[task_id, entry, counted, now],
    )
    return bool(done)


async def release(state: RedisStateManager, tenant: str, task_id: str) -> None:
    """Count a task that does not exist any more as active no longer."""
    redis = await connection(state)
    await redis.srem(f"tenant:{tenant}:active_tasks", task_id)


async def finish(
    state: RedisStateManager, task: RedisTaskMetadata, packed: bytes
) -> TaskTerminalizationResult:
    """End a task with a result, msgpack of a ``DoclingTaskResult``; the first end counts."""
    return await state._finalize_task_terminal_state_atomic(
        tenant_id=task.tenant_id,
        task_id=task.task_id,
        task_size=task.task_size,
        terminal_status=TaskStatus.SUCCESS,
        result_key=result_key(state, task.task_id),
        result_data=packed,
    )


def count_waiting(redis: Any) -> int:
    """The number of waiting tasks of all tenants. ``redis`` is a synchronous client."""
    tenants = [name.decode() for name in redis.smembers(TENANT_REGISTRY_KEY)]
    pipe = redis.pipeline(transaction=False)
    for tenant in tenants:
        pipe.llen(f"tenant:{tenant}:tasks")
    return sum(pipe.execute()) if tenants else 0
