"""The states of a worker process, why it is given up, and which moves are legal.

::

    STARTING ──ready──▶ STANDBY ──run────────────────▶ BUSY ◀──▶ LOADING
        │               ▲ │  ▲ │                        │ ▲          │
        │               │ │  │ └─▶ BOOKING ──memory─────┤ │          │
        │               │ │  │        ▲ │     granted   │ │          │
        │          models │  └────────│─│──no models────┤ │          │
        │         dropped │           │ │               │ │          │
        │               │ │         WARM ◀──models──────┴─┴──────────┘
        │           RESTING ◀───idle──┤ │
        └─────────────────┴───────────┴─┴── stop / exit seen, from any of them
                                           ▼
                        STOPPING ──exit──▶ RELEASING ──memory free──▶ STOPPED
                            │
                            └──will not die──▶ LOST
"""

from __future__ import annotations

from enum import Enum


class WorkerState(str, Enum):
    """Settled states are nouns or adjectives, states in transit end in -ing."""

    #: The process was requested; its imports are running.
    STARTING = "starting"
    #: Imports are done, no model is loaded: it holds no GPU memory.
    STANDBY = "standby"
    #: Has a job and waits until the device memory for it is free.
    BOOKING = "booking"
    #: Runs a job.
    BUSY = "busy"
    #: Runs a job and is building a pipeline for it, which loads models.
    LOADING = "loading"
    #: Idle with models loaded.
    WARM = "warm"
    #: Is dropping its models, to be on standby again.
    RESTING = "resting"
    #: Asked or forced to exit; its exit is awaited.
    STOPPING = "stopping"
    #: Has exited; the device is watched until its memory is free.
    RELEASING = "releasing"
    #: Gone, and its memory is free: its slot can be reused.
    STOPPED = "stopped"
    #: Survived SIGKILL for the whole wait (it sleeps in a driver): its memory stays booked.
    LOST = "lost"


class StopReason(str, Enum):
    """Why a worker is, or was, given up."""

    IDLE = "idle"
    MAX_TASKS = "max_tasks"
    MAX_RSS = "max_rss"
    MAX_VRAM = "max_vram"
    GROWTH = "growth"
    TIMED_OUT = "timed_out"
    STALLED = "stalled"
    OUT_OF_MEMORY = "out_of_memory"
    MAKE_ROOM = "make_room"
    NEEDS_NETWORK = "needs_network"
    MEMORY_LIMIT = "memory_limit"
    CANCELLED = "cancelled"
    CLEARED = "cleared"
    SHUTDOWN = "shutdown"
    START_FAILED = "start_failed"
    CRASHED = "crashed"
    PROTOCOL = "protocol"
    PIPE_LOST = "pipe_lost"


_S = WorkerState

TRANSITIONS: dict[WorkerState, frozenset[WorkerState]] = {
    _S.STARTING: frozenset({_S.STANDBY, _S.STOPPING, _S.RELEASING}),
    _S.STANDBY: frozenset({_S.BOOKING, _S.BUSY, _S.STOPPING, _S.RELEASING}),
    _S.BOOKING: frozenset({_S.BUSY, _S.STANDBY, _S.WARM, _S.STOPPING, _S.RELEASING}),
    _S.BUSY: frozenset({_S.LOADING, _S.STANDBY, _S.WARM, _S.STOPPING, _S.RELEASING}),
    _S.LOADING: frozenset({_S.BUSY, _S.STANDBY, _S.WARM, _S.STOPPING, _S.RELEASING}),
    _S.WARM: frozenset({_S.BOOKING, _S.BUSY, _S.RESTING, _S.STOPPING, _S.RELEASING}),
    _S.RESTING: frozenset({_S.STANDBY, _S.STOPPING, _S.RELEASING}),
    _S.STOPPING: frozenset({_S.RELEASING, _S.LOST}),
    _S.RELEASING: frozenset({_S.STOPPED}),
    _S.LOST: frozenset({_S.RELEASING}),
    _S.STOPPED: frozenset(),
}

RUNNING_A_JOB = frozenset({_S.BUSY, _S.LOADING})
"""A job is running."""

HAS_A_JOB = RUNNING_A_JOB | {_S.BOOKING}
"""A job is assigned, running or not."""

ENDING = frozenset({_S.STOPPING, _S.RELEASING, _S.LOST})
"""No more work, but the slot and the memory are not free yet."""

ROUTINE = frozenset(
    {
        StopReason.IDLE,
        StopReason.MAX_TASKS,
        StopReason.MAX_RSS,
        StopReason.MAX_VRAM,
        StopReason.GROWTH,
        StopReason.MAKE_ROOM,
        StopReason.NEEDS_NETWORK,
        StopReason.CLEARED,
        StopReason.CANCELLED,
        StopReason.SHUTDOWN,
    }
)
"""Exits that an operator need not know about: the settings or a client asked for them."""
