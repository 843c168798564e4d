"""Run plans against a server, several at a time, and write down what came of each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.helpers.api import REQUEST_LIMIT_S
from tests.helpers.failing_documents import faulty
from tests.helpers.server import RunningServer
from tests.soak.plans import CANCELS, LEAVES, SIGNALS, Fault, Plan

_LOOK_S = 0.1
#: How long after a task was handed over its worker is signalled at the latest.
_LATEST_S = 1.5


@dataclass
class Account:
    """What is known of the run when it is over."""

    #: Task id -> its plan, of every task whose id a client got.
    plans: dict[str, Plan] = field(default_factory=dict)
    #: Task id -> its last state as the API told it; None for one that was deleted.
    ends: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    #: Task id -> the body of its result.
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Process id -> the signals it got from us.
    signals: dict[int, set[str]] = field(default_factory=dict)
    #: What was done, as far as there was time for it.
    done: Counter[str] = field(default_factory=Counter)


class MixedRun:
    """Plays the clients, and the one who kills workers. ``clients`` work side by side."""

    def __init__(self, server: RunningServer, clients: int) -> None:
        self._server = server
        self._turns = asyncio.Semaphore(clients)
        self.account = Account()
        #: Task id -> process id of the worker that runs it, as last seen.
        self._at_work: dict[str, int] = {}
        self._looked = asyncio.Event()

    async def play(self, plans: list[Plan]) -> Account:
        """All of them; returns when each has come to its end."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(
            base_url=self._server.url, timeout=REQUEST_LIMIT_S, limits=limits, trust_env=False
        ) as self._http:
            looking = asyncio.ensure_future(self._look())
            try:
                await asyncio.gather(*(self._one(plan) for plan in plans))
            finally:
                looking.cancel()
        return self.account

    async def _one(self, plan: Plan) -> None:
        async with self._turns:
            if plan.fault in LEAVES:
                await self._leave(plan)
            else:
                await self._ask(plan)

    async def _ask(self, plan: Plan) -> None:
        task = await self._submit(plan)
        if plan.fault is Fault.CANCEL_WAITING:
            await self._delete(task, plan)
            return
        if plan.fault in (*SIGNALS, Fault.CANCEL_RUNNING):
            worker = await self._worker_of(task, plan.moment)
            if worker is not None and plan.fault in CANCELS:
                await self._delete(task, plan)
                return
            if worker is not None:
                self._signal(worker, plan)
        await self._await_end(task)

    async def _submit(self, plan: Plan) -> str:
        # A limit that differs tells requests apart, so that none is refused for another's fate.
        form = {"document_timeout": str(1000 + plan.number)}
        if plan.fault is Fault.HANG:
            form |= faulty("hang")
        reply = await self._http.post(
            "/v1/convert/file/async", files={"files": (plan.name, plan.content)}, data=form
        )
        assert reply.status_code == 200, reply.text
        task = str(reply.json()["task_id"])
        self.account.plans[task] = plan
        return task

    async def _worker_of(self, task: str, moment: float) -> int | None:
        """The worker that has the task, some time after it got it; None if it has ended."""
        ended = asyncio.ensure_future(self._state(task, wait=REQUEST_LIMIT_S - 20))
        try:
            while not ended.done():
                if task in self._at_work:
                    await asyncio.wait({ended}, timeout=moment * _LATEST_S)
                    return self._at_work.get(task)
                looked = asyncio.ensure_future(self._looked.wait())
                await asyncio.wait({ended, looked}, return_when=asyncio.FIRST_COMPLETED)
                looked.cancel()
            return None
        finally:
            ended.cancel()
            await asyncio.wait({ended})

    async def _look(self) -> None:
        """Keep an eye on who has which task, for all clients."""
        while True:
            workers = (await self._http.get("/v1/workers")).json()["workers"]
            self._at_work = {
                w["task_id"]: w["pid"] for w in workers if w["state"] in ("busy", "loading")
            }
            self._looked.set()
            self._looked = asyncio.Event()
            await asyncio.sleep(_LOOK_S)

    def _signal(self, pid: int, plan: Plan) -> None:
        number = signal.Signals[plan.fault.name]
        self.account.signals.setdefault(pid, set()).add(number.name)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        self.account.done[plan.fault.value] += 1

    async def _delete(self, task: str, plan: Plan) -> None:
        reply = await self._http.delete(f"/v1/tasks/{task}")
        assert reply.status_code == 200, reply.text
        assert (await self._http.get(f"/v1/status/poll/{task}")).status_code == 404
        self.account.ends[task] = None
        self.account.done[plan.fault.value] += 1

    async def _await_end(self, task: str) -> None:
        status: dict[str, Any] = {"task_status": "pending"}
        while status["task_status"] not in ("success", "failure"):
            status = await self._state(task, wait=REQUEST_LIMIT_S - 20)
        self.account.ends[task] = status
        reply = await self._http.get(f"/v1/result/{task}")
        assert reply.status_code == 200, reply.text
        self.account.bodies[task] = reply.json()

    async def _state(self, task: str, wait: float = 0.0) -> dict[str, Any]:
        reply = await self._http.get(f"/v1/status/poll/{task}", params={"wait": wait})
        assert reply.status_code == 200, reply.text
        state: dict[str, Any] = reply.json()
        return state

    async def _leave(self, plan: Plan) -> None:
        """A synchronous request whose client goes."""
        request = self._http.build_request(
            "POST", "/v1/convert/file", files={"files": (plan.name, plan.content)}
        )
        body = request.read()
        sent = len(body) // 2 if plan.fault is Fault.LEAVE_UPLOAD else len(body)
        gone = asyncio.Event()

        async def parts() -> AsyncIterator[bytes]:
            yield body[:sent]
            if sent < len(body):
                gone.set()
                await asyncio.Event().wait()

        asking = asyncio.ensure_future(
            self._http.post("/v1/convert/file", content=parts(), headers=request.headers)
        )
        if sent < len(body):
            await gone.wait()
        else:
            await asyncio.wait({asking}, timeout=plan.moment * 2)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        self.account.done[plan.fault.value] += 1
