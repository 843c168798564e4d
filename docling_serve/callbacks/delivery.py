"""Deliver progress events to a task's callbacks: in order, signed, and with retries.

Undelivered events are kept in an outbox, so that delivery continues after a restart.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from docling.datamodel.service.callbacks import CallbackSpec

from docling_serve.callbacks.address import AddressRefused
from docling_serve.callbacks.outbox import Outbox
from docling_serve.callbacks.post import CallbackPost
from docling_serve.settings import DoclingServeSettings

_log = logging.getLogger(__name__)

#: Seconds between retries: 1 and 2 (upstream I83), then doubled up to this.
_LONGEST_PAUSE_S = 300.0
_CANCEL_AGAIN_S = 1.0

TIMESTAMP_HEADER = "X-Docling-Timestamp"
SIGNATURE_HEADER = "X-Docling-Signature"
DELIVERY_HEADER = "X-Docling-Delivery"


@dataclass(frozen=True)
class CallbackRules:
    """``secret`` signs events unless it is empty. ``retry_for_s`` is how old an event may get."""

    secret: str = ""
    allow_private: bool = True
    retry_for_s: float = 3600.0

    @classmethod
    def from_settings(cls, settings: DoclingServeSettings) -> CallbackRules:
        """The options that the deployment sets."""
        return cls(
            secret=settings.callback_secret,
            allow_private=settings.callback_allow_private,
            retry_for_s=settings.callback_retry_for,
        )


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The signature header of ``body``: HMAC-SHA256 over timestamp, a dot, and the body."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


@dataclass(eq=False)
class _Event:
    task_id: str
    body: dict[str, Any]
    created: float
    entry: asyncio.Future[int] | None
    attempts: int = 0
    due: float = 0.0


@dataclass(eq=False)
class _Receiver:
    """One callback of one task, with its pending events in order."""

    spec: CallbackSpec
    events: asyncio.Queue[_Event] = field(default_factory=asyncio.Queue)


class CallbackDelivery:
    """One queue per callback of a task, so that events arrive in the order in which they happened,
    and an unreachable receiver delays no other."""

    def __init__(self, rules: CallbackRules | None = None, outbox: Outbox | None = None) -> None:
        self._rules = rules or CallbackRules()
        self._outbox = outbox
        self._receivers: dict[tuple[str, str], _Receiver] = {}
        self._senders: set[asyncio.Future[Any]] = set()
        self._closing = asyncio.Event()
        self._post = CallbackPost(allow_private=self._rules.allow_private)

    def send(
        self, task_id: str, callbacks: Sequence[CallbackSpec], progress: dict[str, Any]
    ) -> None:
        """Queue one event for every callback of ``task_id``; returns at once."""
        body = {"task_id": task_id, "progress": progress}
        now = time.time()
        for spec in callbacks:
            entry: asyncio.Future[int] | None = None
            if self._outbox is not None:
                target = spec.model_dump(mode="json")
                added = self._outbox.add_delivery(task_id, target, body, now)
                entry = self._background(added)
            self._enqueue(spec, _Event(task_id, body, now, entry))

    async def resume(self) -> None:
        """Resume the deliveries that an earlier server left."""
        pending = await self._outbox.pending_deliveries() if self._outbox else []
        for kept in pending:
            entry: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            entry.set_result(kept.delivery_id)
            event = _Event(kept.task_id, kept.body, kept.created, entry, kept.attempts, kept.due)
            self._enqueue(CallbackSpec.model_validate(kept.target), event)
        if pending:
            _log.info(
                "%d callback events of an earlier server remain to be delivered", len(pending)
            )

    async def close(self, within_s: float) -> None:
        """Give queued events ``within_s`` seconds to be sent. With an outbox, which keeps the rest,
        receivers that refused the last attempt are not waited for."""
        self._closing.set()
        if self._senders:
            _, late = await asyncio.wait(self._senders, timeout=within_s)
            if late and self._outbox is None:
                _log.warning("gave up callback events to %d receivers", len(late))
            while late:  # a sender that gets its answer just now may miss the cancellation
                for sender in late:
                    sender.cancel()
                _, late = await asyncio.wait(late, timeout=_CANCEL_AGAIN_S)
        await self._post.close()

    def _enqueue(self, spec: CallbackSpec, event: _Event) -> None:
        key = (event.task_id, spec.model_dump_json())
        receiver = self._receivers.get(key)
        if receiver is None:
            receiver = self._receivers[key] = _Receiver(spec)
            self._background(self._drain(key, receiver))
        receiver.events.put_nowait(event)

    def _background(self, work: Awaitable[Any]) -> asyncio.Future[Any]:
        task = asyncio.ensure_future(work)
        self._senders.add(task)
        task.add_done_callback(self._senders.discard)
        return task

    async def _drain(self, key: tuple[str, str], receiver: _Receiver) -> None:
        await asyncio.sleep(0)  # its first event comes in the same step
        try:
            while not receiver.events.empty():
                event = receiver.events.get_nowait()
                if not await self._deliver(receiver.spec, event):
                    return  # the server ends; the remaining events would also fail
                await self._note(event, None)
        finally:
            del self._receivers[key]

    async def _deliver(self, spec: CallbackSpec, event: _Event) -> bool:
        """Try until it has arrived or is given up; False when the server ends before that."""
        while True:
            if not await self._wait_until(event.due):
                return False
            event.attempts += 1
            try:
                await self._send(spec, event)
            except AddressRefused as exc:
                _log.error(
                    "task %s: callback not sent, its address is not allowed: %s"
                    " (callback_allow_private, DOCLINGCORE_ALLOWED_PRIVATE_IPS)",
                    *(event.task_id, exc),
                )
                return True
            except ValueError as exc:
                _log.error("task %s: callback cannot be sent: %s", event.task_id, exc)
                return True
            except (httpx.HTTPError, OSError, asyncio.TimeoutError) as exc:
                pause_s = min(2.0 ** (event.attempts - 1), _LONGEST_PAUSE_S)
                event.due = time.time() + pause_s
                given_up = event.due > event.created + self._rules.retry_for_s
                _log.warning(
                    "task %s: callback attempt %d failed: %s; %s",
                    *(event.task_id, event.attempts, exc or type(exc).__name__),
                    "given up" if given_up else f"next attempt in {pause_s:g} s",
                )
                if given_up:
                    return True
                await self._note(event, event.due)
            else:
                return True

    async def _wait_until(self, due: float) -> bool:
        """Wait until ``due``; False if the server ends before that."""
        pause_s = due - time.time()
        if pause_s <= 0:
            return True
        if self._outbox is None:  # no later server will try
            await asyncio.sleep(pause_s)
            return True
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._closing.wait(), pause_s)
            return False
        return True

    async def _note(self, event: _Event, due: float | None) -> None:
        """Note in the outbox that ``event`` is done, or when it is tried again."""
        if self._outbox is None or event.entry is None:
            return
        try:
            delivery_id = await event.entry
            if due is None:
                await self._outbox.delivered(delivery_id)
            else:
                await self._outbox.postpone_delivery(delivery_id, due)
        except OSError as exc:
            _log.warning("task %s: a callback event may be sent twice: %s", event.task_id, exc)

    async def _send(self, spec: CallbackSpec, event: _Event) -> None:
        body = json.dumps(event.body, ensure_ascii=False, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", **spec.headers, **self._proof(event, body)}
        await self._post(spec, body, headers)

    def _proof(self, event: _Event, body: bytes) -> dict[str, str]:
        """Headers that identify the sender, and an event that was sent before."""
        digest = hashlib.sha256(body + str(event.created).encode()).hexdigest()
        headers = {DELIVERY_HEADER: digest[:32]}
        if self._rules.secret:
            timestamp = str(int(time.time()))
            headers[TIMESTAMP_HEADER] = timestamp
            headers[SIGNATURE_HEADER] = signature(self._rules.secret, timestamp, body)
        return headers
