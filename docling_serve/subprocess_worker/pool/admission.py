"""What the pool asks before a worker may load models, independent of who manages device memory.

The pool's side, in the order of a worker's life::

    grant = await admission.admit(kind, on_wait)   # a worker without models is to get a job
    grant.started(kind, pid)                       # the job is handed to it
    grant.loaded()                                 # its models are loaded
    grant.finished(completed=...)                  # the job has finished
    await grant.extend(kind)                       # may it, still warm, run a job of this kind?
    ...                                            # started, loaded, finished as before
    await grant.released()                         # exit seen: returns when the memory is free

``kind`` is any text that is equal for jobs that need the same models. All calls are made on the
event loop; none of them raises because of a driver or another program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Waiting:
    """Why a job is not started yet, in words for a person.

    ``for_own_workers``: it could start if workers of this pool exited, so an idle warm one should
    be ended for it; when it is ``overdue``, also a busy one, after its job.
    """

    reason: str
    for_own_workers: bool = False
    overdue: bool = False


@dataclass(frozen=True)
class DeviceUse:
    """Device memory of one worker, in bytes; None where it cannot be measured."""

    now_bytes: int | None = None
    peak_bytes: int | None = None


@dataclass
class AdmissionCounters:
    """Sums since the start. ``evictions`` counts neighbours that unloaded for us, ``overcommitted``
    starts with less free memory than requested."""

    grants: int = 0
    waits: int = 0
    wait_seconds: float = 0.0
    evictions: int = 0
    overcommitted: int = 0


OnWait = Callable[[Waiting], None]


def _ignore(_: Waiting) -> None:
    return None


class Grant(Protocol):
    """One worker's permission to take device memory, until it is returned."""

    @property
    def device_uuid(self) -> str | None:
        """For the worker's ``CUDA_VISIBLE_DEVICES``; None leaves its environment as it is."""
        ...

    @property
    def use(self) -> DeviceUse:
        """What the worker holds, as last measured."""
        ...

    async def extend(self, kind: str) -> bool:
        """Whether the worker, still warm, may also run a job of ``kind``; never waits for memory.
        False: end the worker, and admit the job again."""
        ...

    def started(self, kind: str, pid: int) -> None:
        """A job of ``kind`` was handed to process ``pid``; its memory is measured from now on."""
        ...

    def loaded(self) -> None:
        """The worker's models are loaded: the next one may start on this device."""
        ...

    def finished(self, *, completed: bool, ocr_ran: bool = False) -> None:
        """The job ended. ``completed`` is True if what it took is typical of such a job, False if
        it failed, was cancelled or was killed. ``ocr_ran``: it recognised text, so the OCR models,
        which are loaded at first use, were in memory."""
        ...

    def out_of_memory(self) -> None:
        """The job ran out of device memory: from now on jobs of its kind wait for more. Call it
        before :meth:`finished`."""
        ...

    async def ending(self) -> None:
        """The worker is about to be asked to exit; measure it now, while it holds its memory."""
        ...

    async def released(self) -> None:
        """The process exited: return when its memory is free, or after a time limit. Returns the
        grant, even if cancelled."""
        ...

    def give_back(self) -> None:
        """Return the grant without waiting: the worker holds no device memory. A second call does
        nothing."""
        ...


class Admission(Protocol):
    """Decides when a worker may take device memory, and on which device."""

    @property
    def counters(self) -> AdmissionCounters:
        """Counters for metrics."""
        ...

    @property
    def shares_devices(self) -> bool:
        """Whether it matters if a job can use a device; one that cannot skips admission."""
        ...

    def begin(self) -> None:
        """The server has started: find out in the background what takes a while."""
        ...

    async def admit(self, kind: str, on_wait: OnWait = _ignore) -> Grant:
        """Wait until a worker without models may start a job of ``kind``.

        Call it right before the job is handed over: the memory is free now, not forever.
        ``on_wait`` is called at each change of the reason to wait, and repeatedly while that is
        ``for_own_workers``. Cancelling the call leaves nothing booked; a grant that was returned is
        the caller's to give back.
        """
        ...

    def close(self) -> None:
        """Stop measuring. Pending calls of :meth:`admit` are cancelled."""
        ...


class NoDevice:
    """The grant of a worker that takes no device memory."""

    device_uuid: str | None = None
    use = DeviceUse()

    async def extend(self, kind: str) -> bool:  # noqa: ARG002
        """Always allowed."""
        return True

    def started(self, kind: str, pid: int) -> None:
        """Nothing to measure."""

    def loaded(self) -> None:
        """Nothing waits for it."""

    def finished(self, *, completed: bool, ocr_ran: bool = False) -> None:
        """Nothing to learn."""

    def out_of_memory(self) -> None:
        """Nothing to learn."""

    async def ending(self) -> None:
        """Nothing to measure."""

    async def released(self) -> None:
        """Nothing to wait for."""

    def give_back(self) -> None:
        """Nothing was booked."""


NO_DEVICE = NoDevice()
"""What a worker has before its first grant."""


class AdmitAll:
    """Where there is no device memory to share out, every job may start at once."""

    shares_devices = False

    def __init__(self) -> None:
        self.counters = AdmissionCounters()

    def begin(self) -> None:
        """Nothing to find out."""

    async def admit(self, kind: str, on_wait: OnWait = _ignore) -> Grant:  # noqa: ARG002
        """Grant without a device."""
        self.counters.grants += 1
        return NoDevice()

    def close(self) -> None:
        """Nothing to stop."""
