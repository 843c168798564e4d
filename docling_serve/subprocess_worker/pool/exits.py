"""How a worker exited, and what that means for its job."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from docling_serve.errors import CANCELLED, SHUT_DOWN, Failure
from docling_serve.process import control_group
from docling_serve.subprocess_worker.pool.states import StopReason

#: Exit code that multiprocessing reports when the fork server itself died.
FORKSERVER_GONE = 255

#: Signals that a worker's own code causes, while it works on the document.
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE})

_OURS: dict[StopReason, Failure] = {
    StopReason.CANCELLED: CANCELLED,
    StopReason.SHUTDOWN: SHUT_DOWN,
    StopReason.PROTOCOL: Failure(
        "internal", "The worker process sent something unreadable.", retryable=True
    ),
    StopReason.PIPE_LOST: Failure(
        "internal",
        "The worker process closed its connection to the server and kept running.",
        retryable=True,
    ),
    StopReason.START_FAILED: Failure(
        "internal",
        "No worker process could be started; the server's log says why.",
        retryable=True,
        phase="orchestration",
    ),
}


@dataclass(frozen=True)
class Ending:
    """The end of a worker. ``oom_kills`` is how many processes of this control group the kernel's
    out-of-memory killer ended meanwhile; only a hint, since it does not say which."""

    exit_code: int | None
    reason: StopReason | None
    oom_kills: int = 0
    last_lines: str = ""

    @property
    def worth_another_try(self) -> bool:
        """Whether the job may be retried: the worker was lost, not stopped by us."""
        return self.reason in (
            *(None, StopReason.CRASHED),
            *(StopReason.PROTOCOL, StopReason.PIPE_LOST),
        )

    def failure(self) -> Failure:
        """The failure of the job that was running."""
        failure = _OURS.get(self.reason) if self.reason else None
        if failure is None:
            failure = self._lost()
        details = dict(failure.details)
        if self.exit_code is not None or self.worth_another_try:
            details["exit"] = exit_text(self.exit_code)
        if self.last_lines and self.worth_another_try:
            details["worker_log"] = self.last_lines[-4000:]
        return Failure(failure.category, failure.message, failure.retryable, failure.phase, details)

    def _lost(self) -> Failure:
        code = self.exit_code
        if code is None or code == FORKSERVER_GONE:
            return Failure("internal", "The worker process was lost.", retryable=True)
        if code == -signal.SIGKILL and self.oom_kills:
            return Failure(
                "capacity", "The worker process was killed because memory ran out.", retryable=True
            )
        if code == -signal.SIGKILL:
            return Failure(
                "capacity",
                "The worker process was killed from outside (SIGKILL).",
                retryable=True,
            )
        if -code in _CRASHES:
            return Failure(
                "backend_failure",
                f"The worker process crashed ({exit_text(code)}) while converting this task.",
            )
        return Failure(
            "internal", f"The worker process exited early ({exit_text(code)}).", retryable=True
        )


def set_at_exit(pid: int, exited: asyncio.Event) -> None:
    """Have the kernel set ``exited`` when process ``pid`` exits. Uses a pidfd, since
    multiprocessing's sentinel stays open in every process that the worker forked."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:  # gone already, and reaped
        exited.set()
        return

    def ended() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        exited.set()

    loop.add_reader(descriptor, ended)


def exit_text(exit_code: int | None) -> str:
    """``SIGSEGV`` instead of -11."""
    if exit_code is None:
        return "unknown"
    if exit_code < 0:
        try:
            return signal.Signals(-exit_code).name
        except ValueError:
            return f"signal {-exit_code}"
    return f"code {exit_code}"


def oom_kill_count(mount: Path = control_group.MOUNT) -> int:
    """How many processes of this control group the out-of-memory killer has ended so far; 0 if the
    kernel does not say (no control group v2)."""
    return control_group.read_table("memory.events", mount).get("oom_kill", 0)
