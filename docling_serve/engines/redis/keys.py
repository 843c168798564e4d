"""Idempotency keys of clients: which task a request has created, on whichever gateway.

A claim is written before its task and names it, so two gateways cannot both create one. It holds as
long as its task exists; then, or when its gateway was lost before it could create the task, the
next request with the key takes the claim over.

``docling:key:<SHA-256 of tenant and key>``: JSON of :class:`_Claim`
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

from redis.asyncio import Redis as AsyncRedis

from docling_serve.errors import KeyReused

#: Longer than a task waits, and cheap.
_KEPT_S = 14 * 24 * 3600
#: In this time a gateway creates the task that it has claimed a key for.
_CREATES_WITHIN_S = 30.0
_LOOK_AGAIN_S = 0.05

_SWAP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1])
else redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end
return 1
"""


@dataclass(frozen=True)
class _Claim:
    """``at`` is in seconds since 1970, by the clock of the gateway."""

    task_id: str
    fingerprint: str
    at: float
    created: bool = False

    def dump(self) -> str:
        return json.dumps(asdict(self))


class IdempotencyKeys:
    """Claims of keys. ``exists`` says whether a task is known, and will be or was run.

    Every method may raise ``redis.RedisError``.
    """

    def __init__(self, connection: AsyncRedis, exists: Callable[[str], Awaitable[bool]]) -> None:
        self._redis = connection
        self._exists = exists
        self._swap = connection.register_script(_SWAP)
        self._claims: dict[str, str] = {}

    async def claim(self, tenant: str, key: str, fingerprint: str, task_id: str) -> str:
        """The task of the key: ``task_id``, which the caller now has to create and to report with
        :meth:`created` or :meth:`failed`, or the one that an earlier request has created.

        Raises:
            KeyReused: the key was used before, with another request.
        """
        name = _name(tenant, key)
        while True:
            mine = _Claim(task_id, fingerprint, time.time())
            if await self._redis.set(name, mine.dump(), nx=True, ex=_KEPT_S):
                self._claims[task_id] = mine.dump()
                return task_id
            text = await self._redis.get(name)
            if text is None:
                continue
            other = _Claim(**json.loads(text))
            if await self._exists(other.task_id):
                if other.fingerprint != fingerprint:
                    raise KeyReused(
                        "The Idempotency-Key was used before, with another request. Use a new key."
                    )
                return other.task_id
            is_free = other.created or time.time() - other.at > _CREATES_WITHIN_S
            if is_free and await self._swapped(name, text, mine.dump()):
                self._claims[task_id] = mine.dump()
                return task_id
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def created(self, tenant: str, key: str, task_id: str) -> None:
        """The task exists: once it is gone, the key is free."""
        text = self._claims.pop(task_id)
        made = _Claim(**{**json.loads(text), "created": True})
        await self._swapped(_name(tenant, key), text, made.dump())

    async def failed(self, tenant: str, key: str, task_id: str) -> None:
        """The task could not be created: the key is free."""
        await self._swapped(_name(tenant, key), self._claims.pop(task_id), "")

    async def _swapped(self, name: str, old: str | bytes, new: str) -> bool:
        return bool(await self._swap(keys=[name], args=[old, new, _KEPT_S]))


def _name(tenant: str, key: str) -> str:
    digest = hashlib.sha256(json.dumps([tenant, key]).encode()).hexdigest()
    return f"docling:key:{digest}"
