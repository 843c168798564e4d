"""Waiting jobs in Redis, in the order in which tenants take turns, for any number of processes.

The list of a queue stays RQ's own, so any RQ worker can drain it and any RQ client can fill it. Our
gateways insert a job where its turn is (start-time fair queueing, as in the local engine) instead
of at the end. Next to the list they keep what it cannot express: which job needs no models, and
where the turns of each tenant end. A job that another program has queued has no turn: it is taken
when it reaches the head of the list.

A job that is taken moves to RQ's *intermediate* list in the same step. It leaves that list when its
worker has registered it, so a worker that dies in between loses nothing: see :meth:`Lines.restore`.

=====================================  ==========================================================
``docling:line:<queue>:heavy, :light``  sorted sets of the waiting jobs; the score is the turn
``docling:line:<queue>:owners``         hash: the tenant of each of them
``docling:line:<queue>:counts``         hash: how many of them each tenant has
``docling:line:<queue>:ends``           hash: where the turns of each tenant end
``docling:line:<queue>:clock``          hash: ``now``, the last turn taken; ``number`` of arrivals
``docling:line:<queue>:times``          hash: the average seconds of tasks of either kind
``docling:line:<queue>:arrived``        channel: a job has arrived
=====================================  ==========================================================

Needs Redis 6.0.6. All of it blocks: use a thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from redis import Redis
from rq import Queue
from rq.intermediate_queue import IntermediateQueue
from rq.utils import as_text

_SPARE_TENANTS = 64

_SHARED = """
local list, taken, base = KEYS[1], KEYS[2], KEYS[3]
local heavy, light = base .. ':heavy', base .. ':light'
local owners, counts = base .. ':owners', base .. ':counts'
local ends, clock = base .. ':ends', base .. ':clock'

local function forget(id)
  redis.call('ZREM', heavy, id)
  redis.call('ZREM', light, id)
  local tenant = redis.call('HGET', owners, id)
  if not tenant then return nil end
  redis.call('HDEL', owners, id)
  if redis.call('HINCRBY', counts, tenant, -1) <= 0 then redis.call('HDEL', counts, tenant) end
  return tenant
end

-- The first of a line; jobs that another program has taken out of the list are dropped.
local function first(line)
  while true do
    local found = redis.call('ZRANGE', line, 0, 0, 'WITHSCORES')
    if not found[1] then return nil, nil end
    if redis.call('HGET', 'rq:job:' .. found[1], 'status') == 'queued' then
      return found[1], tonumber(found[2])
    end
    forget(found[1])
  end
end

local function now() return tonumber(redis.call('HGET', clock, 'now') or 0) end
"""

_PUT = (
    _SHARED
    + """
local id, tenant, cost = ARGV[1], ARGV[2], tonumber(ARGV[3])
local line = ARGV[4] == '1' and light or heavy
-- Equal turns are taken in the order of arrival.
local number = redis.call('HINCRBY', clock, 'number', 1)
local turn = math.max(now(), tonumber(redis.call('HGET', ends, tenant) or 0))
local score = string.format('%.17g', turn + number / 4294967296)
redis.call('HSET', ends, tenant, turn + cost)
redis.call('HSET', owners, id, tenant)
redis.call('HINCRBY', counts, tenant, 1)

local function next_one()
  local best, best_score
  for _, each in ipairs({heavy, light}) do
    local found = redis.call('ZRANGEBYSCORE', each, score, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if found[1] and (not best or tonumber(found[2]) < best_score) then
      best, best_score = found[1], tonumber(found[2])
    end
  end
  return best
end

while true do
  local after = next_one()
  if not after then
    redis.call('RPUSH', list, id)
    break
  end
  if redis.call('LINSERT', list, 'BEFORE', after, id) > 0 then break end
  forget(after)
end
redis.call('ZADD', line, score, id)
redis.call('PUBLISH', base .. ':arrived', id)
return redis.call('LLEN', list)
"""
)

_TAKE = (
    _SHARED
    + """
local kind, spare = ARGV[1], tonumber(ARGV[2])

local function stranger()
  if kind == 'light' then return nil end
  local head = redis.call('LINDEX', list, 0)
  if head and redis.call('HEXISTS', owners, head) == 0 then return head end
end

local function next_one()
  local id, score = nil, nil
  if kind ~= 'light' then id, score = first(heavy) end
  if id and kind == 'heavy' then return id, score end
  local other, other_score = first(light)
  if other and (not id or other_score < score) then return other, other_score end
  return id, score
end

local function tidy()
  if redis.call('LLEN', list) == 0 then
    redis.call('DEL', heavy, light, owners, counts, ends, clock)
  elseif redis.call('HLEN', ends) > redis.call('HLEN', counts) + spare then
    local passed, fields = now(), redis.call('HGETALL', ends)
    for i = 1, #fields, 2 do
      if tonumber(fields[i + 1]) <= passed then redis.call('HDEL', ends, fields[i]) end
    end
  end
end

while true do
  local id, score = stranger(), nil
  if not id then
    id, score = next_one()
    if not id then id = stranger() end  -- what next_one() has forgotten belongs to no tenant now
    if not id then return nil end
    forget(id)
  end
  if redis.call('LREM', list, 1, id) > 0 then
    if score then redis.call('HSET', clock, 'now', math.max(now(), math.floor(score))) end
    redis.call('RPUSH', taken, id)
    tidy()
    return id
  end
end
"""
)

_DISCARD = (
    _SHARED
    + """
local removed = redis.call('LREM', list, 1, ARGV[1])
local tenant = forget(ARGV[1])
-- A tenant that withdraws all it has does not pay for the turns it has not had.
if tenant and redis.call('HEXISTS', counts, tenant) == 0 then redis.call('HDEL', ends, tenant) end
return removed
"""
)

_RESTORE = (
    _SHARED
    + """
local id, started = ARGV[1], KEYS[4]
-- A slow worker may be registering it: the job must not leave this list unless it enters the other.
for _, each in ipairs(redis.call('ZRANGE', started, 0, -1)) do
  if string.sub(each, 1, #id + 1) == id .. ':' then return 0 end
end
if redis.call('LREM', taken, 1, id) == 0 then return 0 end
if redis.call('HGET', 'rq:job:' .. id, 'status') ~= 'queued' then return 0 end  -- it has ended
redis.call('LPUSH', list, id)
redis.call('PUBLISH', base .. ':arrived', id)
return 1
"""
)

_TRY_AGAIN = (
    _SHARED
    + """
local id, most, started, detail = ARGV[1], tonumber(ARGV[2]), KEYS[4], KEYS[5]
local running = {}
for _, each in ipairs(redis.call('ZRANGE', started, 0, -1)) do
  if string.sub(each, 1, #id + 1) == id .. ':' then table.insert(running, each) end
end
if #running == 0 then return 'other' end
if tonumber(redis.call('HGET', detail, 'losses') or 0) + 1 >= most then return 'spent' end
if redis.call('HEXISTS', 'rq:job:' .. id, 'data') == 0 then return 'spent' end
redis.call('ZREM', started, unpack(running))
redis.call('HINCRBY', detail, 'losses', 1)
redis.call('HDEL', detail, 'progress')
redis.call('HSET', 'rq:job:' .. id, 'status', 'queued')
redis.call('HDEL', 'rq:job:' .. id, 'worker_name', 'started_at')
redis.call('LREM', taken, 1, id)
redis.call('LPUSH', list, id)
redis.call('PUBLISH', base .. ':arrived', id)
return 'waits'
"""
)


_LEARN = """
local before = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or ARGV[2])
local after = before + tonumber(ARGV[3]) * (tonumber(ARGV[2]) - before)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.17g', after))
"""
#: The average follows the newest tasks: the last ten make up nine tenths of it.
_WEIGHT = 0.2


class Again(str, Enum):
    """What became of a job whose worker was lost: it waits again; it was tried too often; or
    another process was faster."""

    WAITS = "waits"
    SPENT = "spent"
    OTHER = "other"


class Takes(str, Enum):
    """Which jobs to take: the next one of any kind; one that may need models, or a light one if no
    such job waits; or only a light one."""

    ANY = "any"
    HEAVY = "heavy"
    LIGHT = "light"


@dataclass(frozen=True)
class Place:
    """What decides where a job waits. ``cost`` is its share of its tenant's turn, in documents; a
    ``light`` job needs no models."""

    tenant: str
    cost: int = 1
    light: bool = False


def line_key(queue: str) -> str:
    """The common beginning of the keys of a queue's order."""
    return f"docling:line:{queue}"


def times_key(queue: str) -> str:
    """A hash: the average seconds of ``heavy`` and ``light`` tasks."""
    return f"{line_key(queue)}:times"


def arrivals_channel(queue: str) -> str:
    """The channel on which arrivals of jobs are announced."""
    return f"{line_key(queue)}:arrived"


class LineQueue(Queue):
    """RQ's queue, which puts one job at ``place`` instead of at the end."""

    def __init__(self, name: str, connection: Redis, place: Place) -> None:
        super().__init__(name, connection=connection)
        self._place = place

    def push_job_id(self, job_id: str, pipeline: Any = None, at_front: bool = False) -> None:
        """Called by RQ once the job itself is written, in the same transaction."""
        del at_front
        place = self._place
        target = pipeline if pipeline is not None else self.connection
        arguments = (job_id, place.tenant, max(1, place.cost), int(place.light))
        keys = _keys(self)
        target.eval(_PUT, len(keys), *keys, *arguments)


class _Untouched(IntermediateQueue):
    """RQ's maintenance would end the jobs in it as failed; our gateways put them back instead."""

    def cleanup(self, worker: Any, queue: Queue) -> None:
        pass


class DrainedQueue(Queue):
    """RQ's queue, as our workers drain it."""

    @property
    def intermediate_queue(self) -> IntermediateQueue:
        return _Untouched(self.key, connection=self.connection)


class Lines:
    """The waiting jobs of ``queues``, which are drained in this order.

    Every method raises ``redis.RedisError`` when Redis does not answer as it should.
    """

    def __init__(self, connection: Redis, queues: list[Queue]) -> None:
        self._queues = queues
        self._take = connection.register_script(_TAKE)
        self._discard = connection.register_script(_DISCARD)
        self._restore = connection.register_script(_RESTORE)
        self._try_again = connection.register_script(_TRY_AGAIN)
        self._learn = connection.register_script(_LEARN)

    def take(self, takes: Takes) -> tuple[str, Queue] | None:
        """Take the id of the next job, if there is one, and its queue. It is in the intermediate
        list from now on."""
        for queue in self._queues:
            found = self._take(keys=_keys(queue), args=(takes.value, _SPARE_TENANTS))
            if found is not None:
                return as_text(found), queue
        return None

    def registered(self, job_id: str, queue: Queue) -> bool:
        """The job that was taken is registered with RQ; False if it was put back in the meantime,
        because its worker seemed lost."""
        return bool(queue.intermediate_queue.connection.lrem(_taken(queue), 1, job_id))

    def unregistered(self) -> list[tuple[str, Queue]]:
        """The jobs that were taken and not registered yet."""
        return [(job, queue) for queue in self._queues for job in _waiting_in(queue)]

    def restore(self, job_id: str, queue: Queue) -> bool:
        """Put a job that was taken, but never registered, at the head of its queue again; False if
        it was registered, or is gone."""
        keys = [*_keys(queue), queue.started_job_registry.key]
        return bool(self._restore(keys=keys, args=(job_id,)))

    def try_again(self, job_id: str, queue_name: str, detail_key: str, most: int) -> Again:
        """Put a job whose worker was lost at the head of its queue again, if it was not started
        ``most`` times. The hash ``detail_key`` counts the losses in its field ``losses``, and loses
        its field ``progress``."""
        for queue in self._queues:
            if queue.name == queue_name:
                keys = [*_keys(queue), queue.started_job_registry.key, detail_key]
                return Again(as_text(self._try_again(keys=keys, args=(job_id, most))))
        return Again.SPENT

    def learn(self, queue_name: str, light: bool, seconds: float) -> None:
        """Record how long a worker had a task."""
        kind = "light" if light else "heavy"
        self._learn(keys=[times_key(queue_name)], args=(kind, seconds, _WEIGHT))

    def discard(self, job_id: str, queue_name: str) -> bool:
        """Take a job out of its queue for good; False if a worker was faster."""
        for queue in self._queues:
            if queue.name == queue_name:
                return bool(self._discard(keys=_keys(queue), args=(job_id,)))
        return False


def _keys(queue: Queue) -> list[str]:
    return [queue.key, _taken(queue), line_key(queue.name)]


def _taken(queue: Queue) -> str:
    return IntermediateQueue.get_intermediate_queue_key(queue.key)


def _waiting_in(queue: Queue) -> list[str]:
    return queue.intermediate_queue.get_job_ids()
