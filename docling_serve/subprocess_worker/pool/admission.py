"""What the pool asks before a worker may load models, whoever knows about device memory.

The pool's side, in the order of a worker's life::

    grant = await admission.admit(kind, on_wait)   # a worker without models is to get a job
    admission.running(grant, kind, pid)            # the job is handed to it
    admission.loaded(grant)                        # its models are loaded
    admission.finished(grant, completed=...)       # the job ended
    await admission.extend(grant, kind)            # may it, still warm, run a job of this kind?
    ...                                            # running, loaded, finished as before
    admission.release(grant)                       # exit seen, memory back: the very last call

``kind`` is any text that is the same for jobs that need the same models. All calls are made on
the event loop; none of them raises for what a driver or another program does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Protocol


@dataclass(frozen=True)
class Grant:
    """Leave to take device memory, for one worker until :meth:`Admission.release`.

    ``device_uuid`` is for the worker's ``CUDA_VISIBLE_DEVICES``; None leaves its environment as it
    is. ``number`` tells grants apart.
    """

    number: int
    kind: str
    device_uuid: str | None = None
    booked_bytes: int = 0


@dataclass(frozen=True)
class Waiting:
    """Why a job is not started yet, in words for a person.

    ``for_own_workers``: it could start if workers of this pool ended, so that a warm one without
    a job should be ended for it; when it is ``overdue``, also one with a job, after the job.
    """

    reason: str
    for_own_workers: bool = False
    overdue: bool = False


@dataclass(frozen=True)
class DeviceUse:
    """Device memory of one worker, in bytes; None where nobody can tell."""

    now_bytes: int | None = None
    peak_bytes: int | None = None


@dataclass
class AdmissionCounters:
    """Sums since the start. ``evictions`` counts neighbours that unloaded for us,
    ``overcommitted`` starts with less free memory than wanted."""

    grants: int = 0
    waits: int = 0
    wait_seconds: float = 0.0
    evictions: int = 0
    overcommitted: int = 0


OnWait = Callable[[Waiting], None]


def _ignore(_: Waiting) -> None:
    return None


class Admission(Protocol):
    """Decides when a worker may take device memory, and on which device."""

    @property
    def counters(self) -> AdmissionCounters:
        """For metrics."""
        ...

    @property
    def shares_devices(self) -> bool:
        """Whether it matters if a job can use a device; one that cannot is not asked for."""
        ...

    def begin(self) -> None:
        """The server has started: find out, off its way, what takes a while."""
        ...

    async def admit(self, kind: str, on_wait: OnWait = _ignore) -> Grant:
        """Wait until a worker without models may start a job of ``kind``.

        Call it right before the job is handed over: the memory is free now, not for ever.
        ``on_wait`` is called at each change of the reason to wait, and again and again while that
        is ``for_own_workers``. Cancelling the call leaves
        nothing booked; a grant that was returned is the caller's to release.
        """
        ...

    async def extend(self, grant: Grant, kind: str) -> bool:
        """Whether the warm worker of ``grant`` may also run a job of ``kind``; never waits for
        memory. False: end the worker, and admit the job anew."""
        ...

    def running(self, grant: Grant, kind: str, pid: int) -> None:
        """A job of ``kind`` was handed to process ``pid``; its memory is measured from now on."""
        ...

    def loaded(self, grant: Grant) -> None:
        """The worker's models are loaded: the next one may start on this device."""
        ...

    def finished(self, grant: Grant, *, completed: bool, ocr_ran: bool = False) -> None:
        """The job ended; ``completed`` if what it took is what such a job takes, False for one
        that failed, was cancelled or killed; ``ocr_ran`` if it recognised text, so that the models
        for that, which are loaded at the first use, were in memory."""
        ...

    def out_of_memory(self, grant: Grant) -> None:
        """The job ran out of device memory: jobs of its kind wait for more from now on. Call it
        before :meth:`finished`."""
        ...

    def use(self, grant: Grant) -> DeviceUse:
        """What the worker holds, as last measured."""
        ...

    def release(self, grant: Grant) -> None:
        """The worker's exit was seen and its memory is back; a second call does nothing."""
        ...

    def close(self) -> None:
        """Stop measuring. Calls of :meth:`admit` that still wait are cancelled."""
        ...


class AdmitAll:
    """Where there is no device memory to share out, every job may start at once."""

    shares_devices = False

    def __init__(self) -> None:
        self.counters = AdmissionCounters()
        self._numbers = count(1)

    def begin(self) -> None:
        """Nothing to find out."""

    async def admit(self, kind: str, on_wait: OnWait = _ignore) -> Grant:  # noqa: ARG002
        """Grant without a device."""
        self.counters.grants += 1
        return Grant(next(self._numbers), kind)

    async def extend(self, grant: Grant, kind: str) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def running(self, grant: Grant, kind: str, pid: int) -> None:
        """Nothing to measure."""

    def loaded(self, grant: Grant) -> None:
        """Nothing waits for it."""

    def finished(self, grant: Grant, *, completed: bool, ocr_ran: bool = False) -> None:
        """Nothing to learn."""

    def out_of_memory(self, grant: Grant) -> None:
        """Nothing to learn."""

    def use(self, grant: Grant) -> DeviceUse:  # noqa: ARG002
        """Not known."""
        return DeviceUse()

    def release(self, grant: Grant) -> None:
        """Nothing was booked."""

    def close(self) -> None:
        """Nothing to stop."""
