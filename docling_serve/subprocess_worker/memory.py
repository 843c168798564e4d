"""What the pool needs to know of device memory, whoever measures it."""

from __future__ import annotations

from typing import Protocol


class DeviceMemory(Protocol):
    """Says when the memory of a worker that ended is back. Called on the event loop."""

    async def note_before(self, pid: int) -> None:
        """Worker ``pid`` holds no device memory now and is about to be given a job."""

    async def wait_after(self, pid: int) -> None:
        """Worker ``pid`` has exited; return when its device memory is back, or after a bound."""


class NoDevice:
    """Where there is no device to watch, a worker's exit is all there is to wait for."""

    async def note_before(self, pid: int) -> None:
        """Nothing to note."""

    async def wait_after(self, pid: int) -> None:
        """Nothing to wait for."""
