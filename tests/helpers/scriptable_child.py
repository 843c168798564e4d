"""A worker whose jobs do what their options say, misbehaviour included.

It is the real process, channel and containment with the conversion left out, so it starts in a
fraction of a second. ``options`` of a job, all of them optional:

=================  =================================================================================
``do``             a name of ``ENDS`` or ``WIRE``, ``TORN_PIPE``, ``succeed`` (default), ``fail``
``reason``         ``details["reason"]`` of a job that fails
``at``             where ``do`` happens, one of ``PHASES`` (default ``after_ack``)
``times``          do it in so many attempts only, and succeed in those after
``holds_models``   what the worker claims in progress and at the end of the job
``loading``        report the phase in which a pipeline is built, before ``do``
``ignore_sigterm`` go deaf to SIGTERM before ``do``
``grandchild``     start a process in the worker's group before ``do``
``say``            what to print before ``do``
``wait_for``       a file to wait for until nobody locks it, before ``do``
``stale``          talk about a job of another number first
``progress``       how many progress messages to send
``onnx``           the fields of ``OnnxUse`` in the result
``body``           the name the result is reported under
``link``           make the result a symbolic link to this path
=================  =================================================================================

Attempts are counted in the file ``tally`` of the job's converter configuration.
The job says who it is by a callback event ``{"pid": ..., "grandchild": ...}``.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docling_serve.jobs.spec import JobProgress, JobResult, OnnxUse, TaskFolder
from docling_serve.subprocess_worker.child.containment import contain
from docling_serve.subprocess_worker.child.main import ChildArguments
from docling_serve.subprocess_worker.protocol.channel import WorkerChannel
from docling_serve.subprocess_worker.protocol.log_pipe import redirect_output
from docling_serve.subprocess_worker.protocol.messages import (
    HEADER,
    MAX_FRAME_BYTES,
    CallbackDue,
    Done,
    Failed,
    Inspect,
    Inspected,
    Progressed,
    Ready,
    Run,
    Started,
    Stop,
    encode,
)

PHASES = ("before_ack", "after_ack", "mid_frame", "after_rename", "after_done")
REPLY = b"the reply"
EXIT_AT_START = 7


def _end(code: int) -> Callable[[], None]:
    return lambda: os._exit(code)


def _signal_self(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def _wait_at(gate: str) -> None:
    with Path(gate).open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)


def _hang() -> None:
    threading.Event().wait()


def _hang_in_c() -> None:
    """A C call that never lets another thread run: ctypes.PyDLL keeps the interpreter's lock."""
    ctypes.PyDLL(None).pause()


def _segfault() -> None:
    ctypes.string_at(0)


ENDS: dict[str, Callable[[], None]] = {
    "exit_0": _end(0),
    "exit_3": _end(3),
    "segfault": _segfault,
    "abort": os.abort,
    "sigkill_self": _signal_self(signal.SIGKILL),
    "hang": _hang,
    "hang_gil": _hang_in_c,
}

#: Half a message, then the end of the channel; the process lives on.
TORN_PIPE = "torn_pipe"

WIRE: dict[str, bytes] = {
    "garbage_frame": HEADER.pack(9) + b"not a JSN",
    "unknown_kind": HEADER.pack(15) + b'{"kind":"moon"}',
    "zero_frame": HEADER.pack(0),
    "oversize_frame": HEADER.pack(MAX_FRAME_BYTES + 1),
    "server_message": encode(Stop()),
}


def main(arguments: ChildArguments) -> None:
    """Serve jobs as their options say."""
    redirect_output(arguments.output)
    contained = contain(parent_pid=arguments.parent_pid)
    channel = WorkerChannel(arguments.channel)
    channel.send(Ready(pid=os.getpid(), import_s=0.0, contained=contained))
    while isinstance(message := channel.receive(), Run | Inspect):
        if isinstance(message, Inspect):
            channel.send(Inspected(job=message.job, uses_gpu=True))
        else:
            _Job(channel, arguments, message).run()
    os._exit(0)


def exits_at_start(arguments: ChildArguments) -> None:
    """A worker whose imports fail; first it waits at ``gate`` of the converter config, if any."""
    if gate := arguments.config.converter_config.get("gate"):
        _wait_at(gate)
    os._exit(EXIT_AT_START)


def exits_at_first_start(arguments: ChildArguments) -> None:
    """A worker whose imports fail once: ``marker`` of the converter config is a path that is not
    there before that."""
    marker = Path(arguments.config.converter_config["marker"])
    if not marker.exists():
        marker.touch()
        os._exit(EXIT_AT_START)
    main(arguments)


def never_ready(arguments: ChildArguments) -> None:
    """A worker whose imports do not end."""
    contain(parent_pid=arguments.parent_pid)
    _hang()


def deaf(arguments: ChildArguments) -> None:
    """A worker that gets ready and then hears neither its server nor SIGTERM."""
    contain(parent_pid=arguments.parent_pid)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channel = WorkerChannel(arguments.channel)
    channel.send(Ready(pid=os.getpid(), import_s=0.0))
    _hang()


class _Job:
    def __init__(self, channel: WorkerChannel, arguments: ChildArguments, run: Run) -> None:
        self.channel = channel
        self.socket = arguments.channel
        self.number = run.job
        self.folder = TaskFolder(Path(run.folder), Path(run.output))
        spec = self.folder.read_job()
        self.options: dict[str, Any] = spec.options
        self.tally = Path(spec.converter_config.get("tally", self.folder.root / "attempts"))
        self.what: str = self.options.get("do", "succeed")
        if self._attempt() > self.options.get("times", 1_000):
            self.what = "succeed"
        self.at: str = self.options.get("at", "after_ack")

    def run(self) -> None:
        self._reached("before_ack")
        if self.options.get("stale"):
            self._talk_of(self.number + 1_000)
        self.channel.send(Started(job=self.number))
        self._introduce()
        for page in range(self.options.get("progress", 0)):
            self._progress("converting", page + 1)
        if self.options.get("loading"):
            self._progress("initialize")
        if gate := self.options.get("wait_for"):
            _wait_at(gate)
        self._reached("after_ack")
        done = encode(self._result())
        if self.at == "mid_frame":
            self.socket.sendall(done[: len(done) // 2])
            self._reached("mid_frame")
        self._leave_reply()
        self._reached("after_rename")
        self.socket.sendall(done)
        self._reached("after_done")

    def _attempt(self) -> int:
        with self.tally.open("a") as file:
            file.write(".")
        return self.tally.stat().st_size

    def _reached(self, phase: str) -> None:
        if phase != self.at:
            return
        if self.what in ENDS:
            ENDS[self.what]()
        elif self.what == TORN_PIPE:
            self.socket.sendall(encode(self._result())[:9])
            self.socket.shutdown(socket.SHUT_RDWR)
            _hang()
        elif self.what in WIRE:
            self.socket.sendall(WIRE[self.what])
            _hang()

    def _introduce(self) -> None:
        facts = {"pid": os.getpid()}
        print(self.options.get("say", ""), file=sys.stderr, flush=True)
        if self.options.get("ignore_sigterm"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self.options.get("grandchild"):
            facts["grandchild"] = subprocess.Popen(["sleep", "600"]).pid
        self.channel.send(CallbackDue(job=self.number, payload=facts))

    def _progress(self, phase: str, page: int = 0) -> None:
        progress = JobProgress(phase=phase, completed_pages=page, total_pages=page)
        self.channel.send(Progressed(job=self.number, progress=progress, holds_models=self._holds))

    def _talk_of(self, job: int) -> None:
        self.channel.send(Started(job=job))
        self.channel.send(self._failure(job))
        self.channel.send(Done(job=job, result=self._job_result(), holds_models=True))

    def _result(self) -> Done | Failed:
        if self.what == "fail":
            return self._failure(self.number)
        return Done(job=self.number, result=self._job_result(), holds_models=self._holds)

    def _job_result(self) -> JobResult:
        name = self.options.get("body", self.folder.body.name)
        onnx = self.options.get("onnx")
        return JobResult(
            body=name,
            media_type="text/plain",
            processing_time=0.001,
            num_succeeded=1,
            onnx=OnnxUse(**onnx) if onnx else None,
        )

    def _failure(self, job: int) -> Failed:
        return Failed(
            job=job,
            category="policy",
            message="The script said so.",
            retryable=False,
            phase="execution",
            details={"why": "script"} | {k: v for k, v in self.options.items() if k == "reason"},
            holds_models=self._holds,
        )

    @property
    def _holds(self) -> bool:
        return bool(self.options.get("holds_models", False))

    def _leave_reply(self) -> None:
        if link := self.options.get("link"):
            self.folder.body.symlink_to(link)
            return
        aside = self.folder.body.with_suffix(".part")
        aside.write_bytes(REPLY)
        aside.rename(self.folder.body)
