"""What can go wrong, in terms of tasks and workers. Knows no HTTP and imports nothing of ours.

Category and phase values are those of docling's ``FailureCategory`` and ``FailurePhase``
(docling.datamodel.service.responses), kept as text so that this module stays free of docling.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

# Values of ``details["reason"]``, where a category alone is too coarse.
CUDA_OUT_OF_MEMORY = "cuda_out_of_memory"
TOO_LARGE = "too_large"
UNSUPPORTED_FORMAT = "unsupported_format"
BY_CANCEL = "cancelled"
BY_SHUTDOWN = "shutdown"

OUT_OF_MEMORY = "out_of_memory"
"""``details["reason"]`` of a failure caused by lack of host memory."""


@dataclass(frozen=True)
class Failure:
    """Why a task ended without a result, in words that clients may see.

    ``retryable`` says whether the same request may succeed when sent again unchanged.
    ``details`` holds short texts, such as the exit signal of a lost worker, or the ``document`` and
    ``page`` concerned.
    """

    category: str
    message: str
    retryable: bool = False
    phase: str = "execution"
    details: dict[str, str] = field(default_factory=dict)


CANCELLED = Failure("policy", "The task was cancelled.", details={"reason": BY_CANCEL})
DELETED = Failure("policy", "The task was deleted.", details={"reason": "deleted"})
SHUT_DOWN = Failure(
    "capacity",
    "The server was shut down before the task ended.",
    retryable=True,
    details={"reason": BY_SHUTDOWN},
)
DISK_FULL = Failure("capacity", "The server's scratch disk is full.", retryable=True)


def disk_is_full(error: BaseException) -> bool:
    """Whether ``error`` says that the disk is full or a quota is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class DoclingServeError(Exception):
    """Base of every error this package raises on purpose."""


class TaskFailed(DoclingServeError):
    """A task ended without a result; ``failure`` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class TaskTimedOut(TaskFailed, TimeoutError):
    """A task used up its time limit and its worker was stopped."""


class TaskNotTransferable(DoclingServeError, ValueError):
    """A task holds something that cannot be handed to a worker process.

    ``field`` is the path of the offending value, e.g. ``options.to_formats``.
    """

    def __init__(self, field_path: str, reason: str) -> None:
        super().__init__(f"The task cannot be handed to a worker: {field_path}: {reason}")
        self.field = field_path
        self.reason = reason


class ChannelBroken(DoclingServeError):
    """The other end of a worker channel sent something that is not a message."""


class ShuttingDown(DoclingServeError):
    """The server no longer accepts tasks."""


class QueueFull(DoclingServeError):
    """No room for another task; ``retry_after_s`` estimates when there may be some."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class KeyReused(DoclingServeError):
    """An idempotency key was sent again with a different request."""
