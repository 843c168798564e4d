"""What a gateway reads of the waiting jobs; see :mod:`docling_serve.engines.redis.lines`."""

from __future__ import annotations

from dataclasses import dataclass

from redis import ResponseError
from redis.asyncio import Redis as AsyncRedis
from rq import Queue

from docling_serve.engines.base import Capacity
from docling_serve.engines.redis.fleet import Fleet
from docling_serve.engines.redis.lines import line_key


@dataclass(frozen=True)
class WaitingPlace:
    """Where a job waits: its position from 1, how many tasks must leave before it starts, and how
    long that takes; the last two are None while no host reports itself."""

    position: int
    ahead: int | None = None
    expected_wait_s: float | None = None


class LineView:
    """Positions, and waits for the workers of ``fleet``.

    Every method raises ``redis.RedisError`` when Redis does not answer as it should.
    """

    def __init__(self, connection: AsyncRedis, fleet: Fleet) -> None:
        self._redis = connection
        self._fleet = fleet

    async def place(self, job_id: str, queue: str) -> WaitingPlace | None:
        """The place of a job; None if it does not wait."""
        base = line_key(queue)
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.lpos(_list_of(queue), job_id)
                pipe.zrank(f"{base}:heavy", job_id)
                pipe.zrank(f"{base}:light", job_id)
                index, heavy, light = await pipe.execute()
        except ResponseError:  # Redis before 6.0.6 does not support this
            return None
        if index is None:
            return None
        if self._fleet.has_light_workers:  # the two lines move independently of each other
            index = next((rank for rank in (heavy, light) if rank is not None), index)
        position = int(index) + 1
        if not self._fleet.hosts:
            return WaitingPlace(position)
        strength = self._fleet.strength(light=light is not None)
        ahead = max(0, position - strength.idle)
        return WaitingPlace(position, ahead, strength.wait_s(ahead))

    async def capacity(self, tenant: str, queue: str) -> Capacity | None:
        """The load as the next task of ``tenant`` would find it; None while no host reports
        itself."""
        fleet, base = self._fleet, line_key(queue)
        if not fleet.hosts:
            return None
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.llen(_list_of(queue))
            pipe.zcard(f"{base}:light")
            pipe.hget(f"{base}:clock", "now")
            pipe.hget(f"{base}:ends", tenant)
            waiting, light, now, end = await pipe.execute()
        turn = max(float(now or 0), float(end or 0))
        async with self._redis.pipeline(transaction=False) as pipe:
            for line in ("heavy", "light"):
                pipe.zcount(f"{base}:{line}", "-inf", f"({turn + 1}")
            before, before_light = await pipe.execute()
        if not fleet.has_light_workers:
            strength = fleet.strength(light=False)
            return Capacity(strength.capacity(waiting, before + before_light), None, None)
        return Capacity(
            heavy=fleet.strength(light=False).capacity(max(0, waiting - light), before),
            light=fleet.strength(light=True).capacity(light, before_light),
            room=None,
        )


def _list_of(queue: str) -> str:
    return f"{Queue.redis_queue_namespace_prefix}{queue}"
