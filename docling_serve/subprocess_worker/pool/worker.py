"""The lifecycle of one worker process, seen from the server.

:meth:`Worker.live` spans from the start to the moment its memory is free. Every change of state
goes through :meth:`Worker._move`, which checks it against the table in ``states``. All of it runs
on the event loop, so nothing here is locked.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from docling_serve.errors import ChannelBroken, ShuttingDown
from docling_serve.jobs.spec import OnnxUse
from docling_serve.subprocess_worker.pool.admission import NO_DEVICE, Grant
from docling_serve.subprocess_worker.pool.exits import exit_text, set_at_exit
from docling_serve.subprocess_worker.pool.limits import limit_reached
from docling_serve.subprocess_worker.pool.memory import MemoryRecord, tree_rss
from docling_serve.subprocess_worker.pool.scheduling import WorkerView
from docling_serve.subprocess_worker.pool.starter import StartedProcess, Starter
from docling_serve.subprocess_worker.pool.states import (
    ENDING,
    ROUTINE,
    RUNNING_A_JOB,
    TRANSITIONS,
    StopReason,
    WorkerState,
)
from docling_serve.subprocess_worker.pool.stopping import Ladder, kill_group, signal_group, stop
from docling_serve.subprocess_worker.protocol import messages
from docling_serve.subprocess_worker.protocol.channel import ServerChannel
from docling_serve.subprocess_worker.protocol.config import WorkerPoolConfig
from docling_serve.subprocess_worker.protocol.log_pipe import WorkerOutput

_log = logging.getLogger(__name__)

#: How long a closed channel may take to drain while a grandchild still holds the other end.
_DRAIN_LIMIT_S = 0.5

#: How long a worker may take to drop its models before it counts as stuck.
_REST_LIMIT_S = 10.0


class WorkerObserver(Protocol):
    """What a worker reports to. Called on the event loop; must not block."""

    def on_message(self, worker: Worker, message: messages.FromWorker) -> None:
        """The worker reported something about its job."""

    def on_moved(self, worker: Worker) -> None:
        """The worker's state changed."""


class Worker:
    """One process, one generation: a replacement is a new object."""

    def __init__(
        self,
        number: int,
        config: WorkerPoolConfig,
        starter: Starter,
        observer: WorkerObserver,
    ) -> None:
        self.number = number
        self.state = WorkerState.STARTING
        #: The state before this one, and how long it lasted.
        self.previous = self.state
        self.previous_s = 0.0
        self.born = self.since = time.monotonic()
        #: Its permission to take device memory.
        self.grant: Grant = NO_DEVICE
        #: The GPU it was given, by UUID; None before its first job, or without a choice.
        self.device_id: str | None = None
        self.reason: StopReason | None = None
        self.pid: int | None = None
        self.exit_code: int | None = None
        self.jobs_done = 0
        self.holds_models = False
        #: Whether dropping its models would free all that its jobs took.
        self.lean = not config.worker.preload_torch
        self.light = False
        self.import_s = 0.0
        self.model_sets = 0
        self.onnx: OnnxUse | None = None  #: What ONNX Runtime runs on, None before a session.
        #: What it reported about its own containment.
        self.measures: dict[str, str] = {}
        #: Where it finds its jobs.
        self.folder = Path()
        #: Whether a job has made it give up the network.
        self.offline = False
        #: Whether its libraries could use a GPU, if there is one.
        self.uses_gpu = True
        self.memory = MemoryRecord()
        self.output = WorkerOutput()
        #: Why it is to end, or drop its models if it can rest and is cleared, once it has no job.
        self.give_up: StopReason | None = None
        self._config = config
        self._starter = starter
        self._observer = observer
        self._channel: ServerChannel | None = None
        self._process: BaseProcess | None = None
        self._exited = asyncio.Event()
        self._ready = asyncio.Event()
        self._ladder: Ladder | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._rest_limit: asyncio.TimerHandle | None = None
        self._task: str | None = None

    async def live(self) -> None:
        """From the start until all its memory is freed. Returns normally however the worker ends;
        if cancelled, it kills the worker and does not wait for its memory."""
        try:
            await self._live()
        except asyncio.CancelledError:  # the event loop is closing
            self._abandon(StopReason.SHUTDOWN)
            raise
        except Exception:  # a bug in here; the code that waits for the job must not wait forever
            starting = self.state is WorkerState.STARTING
            self._abandon(StopReason.START_FAILED if starting else StopReason.CRASHED)
            if self._process is not None:
                await self._starter.reap(self._process)
            raise

    async def _live(self) -> None:
        _log.debug("worker %d: -> %s", self.number, self.state.value)
        started = await self._start()
        if started is not None:
            listening = {
                asyncio.create_task(self._listen()),
                asyncio.create_task(self.output.follow(started.output)),
            }
            await self._await_ready()
            await self._exited.wait()
            # A result may have been sent just before the exit: read it before believing the exit.
            _, open_still = await asyncio.wait(listening, timeout=_DRAIN_LIMIT_S)
            for listener in open_still:
                listener.cancel()
            await self._bury()
        if self.reason is None:
            self.reason = StopReason.CRASHED
        self._count_half_loaded_models()
        self._move(WorkerState.RELEASING)
        if started is not None:
            await self._starter.remove(started.folder)
        if self.holds_models:
            await self.grant.released()
        else:
            self.grant.give_back()
        self._move(WorkerState.STOPPED)

    def book(self, task_id: str) -> None:
        """Keep the worker for a job of this task, which waits for device memory."""
        self._task = task_id
        self.light = False
        self._move(WorkerState.BOOKING)

    def unbook(self) -> None:
        """The job that it was kept for will not come."""
        if self.state is WorkerState.BOOKING:
            self._move(WorkerState.WARM if self.holds_models else WorkerState.STANDBY)
        self._task = None

    def run(self, run: messages.Run, task_id: str, *, light: bool = False) -> None:
        """Hand a job to an idle worker. ``device`` is the GPU it may use, by UUID; only that of the
        worker's first job counts, since CUDA checks only once."""
        self.light = light
        self.device_id = self.device_id or run.device
        self.offline |= self._config.worker.sandbox.denies_network and not run.network
        self._task = task_id
        self._move(WorkerState.BUSY)
        self.say(run)

    def loading(self, *, holds_models: bool, lean: bool = False) -> None:
        """The job is building a pipeline."""
        self._holds(self.holds_models or holds_models, lean)
        if self.state is WorkerState.BUSY:
            self._move(WorkerState.LOADING)

    def converting(self, *, holds_models: bool, lean: bool = False) -> None:
        """The job's pipeline is ready."""
        self._holds(self.holds_models or holds_models, lean)
        if self.state is WorkerState.LOADING:
            self._move(WorkerState.BUSY)

    def finished(self, *, holds_models: bool, lean: bool = False, model_sets: int = 0) -> None:
        """The job ended; what the worker still holds decides its next state."""
        self.jobs_done += 1
        self._holds(holds_models, lean)
        self.model_sets = model_sets
        if self.pid is not None:
            self.memory.note_job_end(tree_rss(self.pid))
        if self.state in RUNNING_A_JOB:
            self._move(WorkerState.WARM if holds_models else WorkerState.STANDBY)
        self._task = None

    def rest(self) -> None:
        """Make an idle worker drop its models; it is on standby once it has."""
        self.give_up = None  # that is what was asked of it
        self._move(WorkerState.RESTING)
        self.say(messages.Rest())
        loop = asyncio.get_running_loop()
        self._rest_limit = loop.call_later(_REST_LIMIT_S, self._stop_if_resting)

    def view(self, has_job: bool, vram_bytes: int | None) -> WorkerView:
        """What a scheduling decision needs to know about it."""
        return WorkerView(
            number=self.number,
            state=self.state,
            since=self.since,
            holds_models=self.holds_models,
            lean=self.lean,
            light=self.light,
            give_up=self.give_up,
            spent=self.spent(has_job, vram_bytes),
            offline=self.offline,
        )

    def spent(
        self, after_this_job: bool = False, vram_bytes: int | None = None
    ) -> StopReason | None:
        """The limit for which it is to be replaced now, or after the job it runs."""
        return limit_reached(
            self._config,
            self.memory,
            jobs=self.jobs_done + after_this_job,
            vram_bytes=vram_bytes or 0,
            at_rest=self.state is WorkerState.STANDBY,
        )

    def stop(self, reason: StopReason, *, ask: bool = True) -> None:
        """Start to end the worker; ``ask=False`` for one that does not listen."""
        if self.state in ENDING or self.state is WorkerState.STOPPED:
            return
        self._count_half_loaded_models()
        self.reason = reason
        ask = ask and self.state is not WorkerState.STARTING  # it does not listen yet
        self._move(WorkerState.STOPPING)
        config = self._config
        ladder = Ladder(
            config.stop_grace_s if ask else 0.0, config.term_grace_s, config.kill_wait_s
        )
        self._ladder = ladder
        if self.pid is not None:
            self._stopping = asyncio.create_task(self._climb(ladder))

    def kill_now(self) -> None:
        """End process and group without waiting, when nothing may wait."""
        if self.pid is not None and not self._exited.is_set():
            signal_group(self.pid, signal.SIGKILL)

    def _count_half_loaded_models(self) -> None:
        """While a pipeline is being built, how much of it is on the device already is unknown, so
        its memory is waited for."""
        self.holds_models = self.holds_models or self.state is WorkerState.LOADING

    def _abandon(self, reason: StopReason) -> None:
        self.grant.give_back()
        if self._channel is not None:
            self._channel.close()
        self.kill_now()
        self.reason = self.reason or reason
        if self.state is not WorkerState.RELEASING:
            self._move(WorkerState.RELEASING)
        self._move(WorkerState.STOPPED)

    async def _start(self) -> StartedProcess | None:
        try:
            started = await self._starter.start(self.number)
        except ShuttingDown:
            self.reason = StopReason.SHUTDOWN
            return None
        except Exception:  # noqa: BLE001
            # Whatever kept the process from starting, the pool must continue and report it.
            _log.exception("worker %d could not be started", self.number)
            self.reason = StopReason.START_FAILED
            return None
        self._process, self.pid = started.process, started.process.pid
        self.folder = started.folder
        assert self.pid is not None
        set_at_exit(self.pid, self._exited)
        self._channel = await ServerChannel.open(started.channel)
        if self._ladder is not None:  # stopped while the start was under way
            self._stopping = asyncio.create_task(self._climb(self._ladder))
        return started

    async def _await_ready(self) -> None:
        waits = {asyncio.create_task(self._ready.wait()), asyncio.create_task(self._exited.wait())}
        timeout = self._config.start_timeout_s
        _, pending = await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()
        if self._ready.is_set() or self.state is not WorkerState.STARTING:
            return
        if self._exited.is_set():
            self.reason = StopReason.START_FAILED
        else:
            _log.error("worker %d was not ready after %.0f s", self.number, timeout)
            self.stop(StopReason.START_FAILED, ask=False)

    async def _listen(self) -> None:
        assert self._channel is not None
        try:
            while (message := await self._channel.receive()) is not None:
                if isinstance(message, messages.Ready):
                    self._became_ready(message)
                elif isinstance(message, messages.Rested):
                    self._rested()
                elif isinstance(message, messages.ToWorker):
                    raise ChannelBroken(f"a worker does not send {message.kind!r}")
                else:
                    self._observer.on_message(self, message)
        except ChannelBroken:
            _log.exception("worker %d (pid %s) broke the protocol", self.number, self.pid)
            self.stop(StopReason.PROTOCOL, ask=False)
        else:
            await self._expect_exit()

    async def _expect_exit(self) -> None:
        """The channel is closed: the worker has exited, or can no longer be reached."""
        try:
            await asyncio.wait_for(self._exited.wait(), _DRAIN_LIMIT_S)
        except asyncio.TimeoutError:
            _log.error("worker %d (pid %s) closed its channel", self.number, self.pid)
            self.stop(StopReason.PIPE_LOST, ask=False)

    def _became_ready(self, message: messages.Ready) -> None:
        self.import_s = message.import_s
        self.uses_gpu = message.uses_gpu
        self.measures = message.contained
        self._starter.tell_once(self.measures)
        self._ready.set()
        if self.pid is not None:
            self.memory.note_birth(tree_rss(self.pid))
        if self.state is WorkerState.STARTING:
            self._move(WorkerState.STANDBY)

    def _holds(self, holds_models: bool, lean: bool) -> None:
        self.holds_models = holds_models
        self.lean = self.lean and lean

    def _rested(self) -> None:
        if self.state is not WorkerState.RESTING:
            return  # it was stopped meanwhile
        assert self._rest_limit is not None
        assert self.pid is not None
        self._rest_limit.cancel()
        self.holds_models = False
        self.model_sets = 0
        self.give_up = None
        self.memory.note(tree_rss(self.pid))
        self._move(WorkerState.STANDBY)

    def _stop_if_resting(self) -> None:
        if self.state is WorkerState.RESTING:
            _log.warning("worker %d (pid %s) did not unload its models", self.number, self.pid)
            self.stop(StopReason.IDLE, ask=False)

    async def _climb(self, ladder: Ladder) -> None:
        assert self.pid is not None
        if ladder.ask_s > 0 and self.holds_models:
            await self.grant.ending()
        rung = await stop(self.pid, self._exited, ladder, ask=lambda: self.say(messages.Stop()))
        _log.debug("worker %d (pid %s) ended: %s", self.number, self.pid, rung.value)
        if not self._exited.is_set():
            what = "worker %d (pid %s) survived SIGKILL; its slot and memory stay booked"
            _log.error(what, self.number, self.pid)
            self._move(WorkerState.LOST)

    async def _bury(self) -> None:
        assert self._process is not None
        assert self._channel is not None
        assert self.pid is not None
        kill_group(self.pid)  # what the document started and left behind
        self._channel.close()
        self.exit_code = await self._starter.reap(self._process)

    def say(self, message: messages.ToWorker) -> None:
        if self._channel is not None:
            self._channel.send(message)

    def _move(self, to: WorkerState) -> None:
        if to not in TRANSITIONS[self.state]:
            raise AssertionError(f"worker {self.number}: {self.state.value} to {to.value}")
        reason = self.reason.value if self.reason else None
        move = f"{self.state.value} -> {to.value}"
        who = (self.number, move, self.pid, self._task, reason)
        _log.debug("worker %d: %s (pid %s, task %s, reason %s)", *who)
        if to is WorkerState.RELEASING and self.reason not in ROUTINE:
            task = f", during task {self._task}" if self._task else ""
            end = (self.number, self.pid, reason, exit_text(self.exit_code), task)
            _log.warning("worker %d (pid %s) ended: %s, %s%s", *end)
        now = time.monotonic()
        self.previous, self.previous_s = self.state, now - self.since
        self.state, self.since = to, now
        self._observer.on_moved(self)
