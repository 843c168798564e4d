"""What clients do: send tasks through any gateway until each is accepted, then read each result."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle

import httpx

from benchmarks.client import RequestFailed

CLIENTS = 16
_PAUSE_S = 0.2
_WAIT_S = 20
_REQUEST_S = 60.0
_REFUSED = (400, 401, 403, 404, 413, 422)
#: A task that is not at its end after this long without any progress counts as lost.
STUCK_S = 240.0


@dataclass
class Sent:
    """A task as its client knows it. ``failures`` are the reasons of earlier tries that the client
    repeated, because the server said that it may."""

    number: int
    tenant: str
    callback: str | None = None
    task_id: str = ""
    ids: list[str] = field(default_factory=list)
    done: bool = False
    wrong: str = ""
    failures: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What is in this document and in no other."""
        return f"Its number is {self.number * 7919}."


class Clients:
    """``gateways`` are addresses. ``body`` fills each document up to the size that is wanted;
    ``on_done`` gets the number of results so far."""

    def __init__(
        self,
        gateways: Sequence[str],
        body: bytes = b"",
        on_done: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._gateways: Iterator[str] = cycle(gateways)
        self._body = body
        self._on_done = on_done
        # Without it, a second round of clients would be answered with the tasks of the first.
        self._round = uuid.uuid4().hex[:8]
        self._done = 0
        self._progress_at = time.monotonic()

    async def submit(self, tasks: Sequence[Sent], on_sent: Callable[[int], None]) -> None:
        """Send all tasks, in their order; ``on_sent`` gets how many were accepted."""
        count = 0

        async def one(client: httpx.AsyncClient, sent: Sent) -> None:
            nonlocal count
            await self._send(client, sent)
            count += 1
            on_sent(count)

        await self._all(tasks, one)

    async def collect(self, tasks: Sequence[Sent]) -> None:
        """Wait for every task and read its result. A task that stays unfinished is left alone."""
        self._progress_at = time.monotonic()
        await self._all(tasks, self._finish)

    async def _all(
        self,
        tasks: Sequence[Sent],
        one: Callable[[httpx.AsyncClient, Sent], Awaitable[None]],
    ) -> None:
        waiting = iter(tasks)
        limits = httpx.Limits(max_connections=4 * CLIENTS)
        async with httpx.AsyncClient(timeout=_REQUEST_S, trust_env=False, limits=limits) as client:

            async def work() -> None:
                for sent in waiting:
                    await one(client, sent)

            await asyncio.gather(*(work() for _ in range(CLIENTS)))

    async def _send(self, client: httpx.AsyncClient, sent: Sent) -> None:
        text = f"# Document {sent.number}\n\n{sent.text}\n".encode() + self._body
        data = {"callbacks": json.dumps({"url": sent.callback})} if sent.callback else {}
        key = f"{self._round}-{sent.number}-{len(sent.failures)}"
        while True:
            reply = await self._ask(
                client,
                "POST",
                "/v1/convert/file/async",
                sent.tenant,
                files={"files": (f"{sent.number}.md", text)},
                data=data,
                extra={"Idempotency-Key": key},
            )
            if reply is not None and reply.status_code == httpx.codes.OK:
                sent.task_id = str(reply.json()["task_id"])
                sent.ids.append(sent.task_id)
                return
            if reply is not None and reply.status_code in _REFUSED:
                raise RequestFailed(f"a task is refused: {reply.status_code} {reply.text[:300]}")
            await asyncio.sleep(_PAUSE_S)

    async def _finish(self, client: httpx.AsyncClient, sent: Sent) -> None:
        while time.monotonic() - self._progress_at < STUCK_S:
            path = f"/v1/status/poll/{sent.task_id}?wait={_WAIT_S}"
            reply = await self._ask(client, "GET", path, sent.tenant)
            if reply is None or reply.status_code not in (httpx.codes.OK, httpx.codes.NOT_FOUND):
                await asyncio.sleep(_PAUSE_S)
            elif reply.status_code == httpx.codes.NOT_FOUND:
                sent.wrong = "the server does not know it"
                return
            elif (status := reply.json())["task_status"] == "success":
                if await self._read(client, sent):
                    return
            elif status["task_status"] == "failure":
                failure = status.get("failure") or {}
                sent.failures.append(str(status.get("error_message")))
                if not failure.get("retryable"):
                    sent.wrong = sent.failures[-1]
                    return
                await self._send(client, sent)
            else:
                await asyncio.sleep(_PAUSE_S / 2)

    async def _read(self, client: httpx.AsyncClient, sent: Sent) -> bool:
        reply = await self._ask(client, "GET", f"/v1/result/{sent.task_id}", sent.tenant)
        if reply is None or reply.status_code != httpx.codes.OK:
            await asyncio.sleep(_PAUSE_S)
            return False
        if sent.text in reply.json()["document"]["md_content"]:
            sent.done = True
        else:
            sent.wrong = "another task's result"
        self._done += 1
        self._progress_at = time.monotonic()
        self._on_done(self._done)
        return True

    async def _ask(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        tenant: str,
        extra: dict[str, str] | None = None,
        **body: object,
    ) -> httpx.Response | None:
        """The answer of the next gateway; None where there is none."""
        headers = {"X-Tenant-Id": tenant, **(extra or {})}
        url = f"{next(self._gateways)}{path}"
        with suppress(httpx.TransportError):
            return await client.request(method, url, headers=headers, **body)  # type: ignore[arg-type]
        return None
