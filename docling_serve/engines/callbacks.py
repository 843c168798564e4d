"""Deliver progress events to a task's callbacks: in order, each with retries."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from typing import Any

import httpx
from docling.datamodel.service.callbacks import CallbackSpec

_log = logging.getLogger(__name__)

_ATTEMPTS = 3  # contract: behaviour I83
_TIMEOUT_S = 30.0
_RETRY_DELAY_S = 1.0


class CallbackDelivery:
    """One queue per task, so that events arrive in the order in which they happened."""

    def __init__(self) -> None:
        self._queues: dict[str, asyncio.Queue[tuple[CallbackSpec, dict[str, Any]]]] = {}
        self._senders: set[asyncio.Task[None]] = set()

    def send(
        self, task_id: str, callbacks: Sequence[CallbackSpec], progress: dict[str, Any]
    ) -> None:
        """Queue one event for every callback of ``task_id``; returns at once."""
        if task_id not in self._queues:
            self._queues[task_id] = asyncio.Queue()
            sender = asyncio.create_task(self._drain(task_id))
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        for callback in callbacks:
            body = {"task_id": task_id, "progress": progress}
            self._queues[task_id].put_nowait((callback, body))

    async def close(self, within_s: float) -> None:
        """Give what is queued ``within_s`` seconds to leave."""
        if self._senders:
            _, late = await asyncio.wait(self._senders, timeout=within_s)
            for sender in late:
                sender.cancel()

    async def _drain(self, task_id: str) -> None:
        queue = self._queues[task_id]
        while not queue.empty():
            await self._deliver(*queue.get_nowait())
        del self._queues[task_id]

    async def _deliver(self, callback: CallbackSpec, body: dict[str, Any]) -> None:
        task_id = body["task_id"]
        try:
            verify = _trust(callback.ca_cert)
        except (OSError, ValueError) as exc:
            _log.error("task %s: callback not sent, its ca_cert cannot be used: %s", task_id, exc)
            return
        async with httpx.AsyncClient(verify=verify, timeout=_TIMEOUT_S) as client:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    reply = await client.post(
                        str(callback.url), json=body, headers=callback.headers
                    )
                    reply.raise_for_status()
                except httpx.HTTPError as exc:
                    _log.warning(
                        "task %s: callback attempt %d of %d failed: %s",
                        task_id,
                        attempt,
                        _ATTEMPTS,
                        exc,
                    )
                    if attempt < _ATTEMPTS:
                        await asyncio.sleep(attempt * _RETRY_DELAY_S)
                else:
                    return


def _trust(ca_cert: str | None) -> ssl.SSLContext | bool:
    """Whom to trust: the usual authorities, or ``ca_cert``, a path or the certificate itself."""
    if not ca_cert:
        return True
    if ca_cert.lstrip().startswith("-----BEGIN"):
        return ssl.create_default_context(cadata=ca_cert)
    return ssl.create_default_context(cafile=ca_cert)
