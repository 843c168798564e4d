"""What the composition root passes to a task actor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from docling_serve.jobs.run_request import Gate, Runner
from docling_serve.process.guardian import Guardian
from docling_serve.settings import DoclingServeSettings


@dataclass(frozen=True)
class HostParts:
    """The gate, the preparation before the first task, and the runner behind the gate."""

    gate: Gate
    prepare: Callable[[], Awaitable[None]]
    runner: Runner
    guardian: Guardian


Compose = Callable[[DoclingServeSettings], HostParts]
"""Makes the parts in the process of an actor, where it is imported by its name."""
