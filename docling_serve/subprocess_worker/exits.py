"""What a worker's end means for the job it had."""

from __future__ import annotations

import signal

from docling_serve.errors import Failure
from docling_serve.subprocess_worker.states import StopReason

#: Exit code that multiprocessing reports when the fork server itself died.
FORKSERVER_GONE = 255


def describe_exit(exit_code: int | None, reason: StopReason | None) -> Failure:
    """The failure of a job whose worker ended with ``exit_code`` (negative: the signal).

    ``reason`` is ours, noted before the worker was stopped, and goes before what the code says.
    """
    details = {"exit": exit_text(exit_code)}
    if reason is StopReason.CANCELLED:
        return Failure("policy", "The task was cancelled.", details=details)
    if reason is StopReason.SHUTDOWN:
        return Failure(
            "capacity", "The server was shut down before the task ended.", True, details=details
        )
    if reason is StopReason.PROTOCOL:
        return Failure(
            "internal", "The worker process sent something unreadable.", True, details=details
        )
    if reason is StopReason.START_FAILED:
        return Failure(
            "internal",
            "No worker process could be started; the server's log says why.",
            True,
            "orchestration",
            details,
        )
    return _crash(exit_code, details)


def _crash(exit_code: int | None, details: dict[str, str]) -> Failure:
    if exit_code in (None, FORKSERVER_GONE):
        return Failure("internal", "The worker process was lost.", True, details=details)
    if exit_code == -signal.SIGKILL:
        return Failure(
            "capacity",
            "The worker process was killed from outside (SIGKILL), most often because memory "
            "ran out.",
            True,
            details=details,
        )
    if exit_code is not None and exit_code < 0:
        return Failure(
            "backend_failure",
            f"The worker process crashed ({exit_text(exit_code)}) while converting this task.",
            details=details,
        )
    return Failure(
        "internal",
        f"The worker process ended early ({exit_text(exit_code)}).",
        True,
        details=details,
    )


def exit_text(exit_code: int | None) -> str:
    """``SIGSEGV`` rather than -11."""
    if exit_code is None:
        return "unknown"
    if exit_code < 0:
        try:
            return signal.Signals(-exit_code).name
        except ValueError:
            return f"signal {-exit_code}"
    return f"code {exit_code}"
