"""When to ask the neighbours on the GPU to unload, and whether more memory may still follow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from docling_serve.vram.admission_rules import NeighbourView
from docling_serve.vram.background import Clock
from docling_serve.vram.neighbours import UnloadOutcome, UnloadReport

SETTLE_S = 10.0
"""How long a neighbour's memory may take to be freed after it agreed: the unload time-out of
llama-swap and of llama.cpp's router, and far beyond the 0.5 to 1.5 s that Ollama takes."""

LONGEST_INTERVAL_S = 300.0
"""A neighbour that reloads at once is asked again, at growing intervals up to this one: some
neighbours abort the requests they are answering."""

_MAY_STILL_FREE = {UnloadOutcome.UNLOADED, UnloadOutcome.STILL_LOADED, UnloadOutcome.TIMED_OUT}

Unload = Callable[[], Awaitable[Sequence[UnloadReport]]]

_log = logging.getLogger(__name__)


class Eviction:
    """One round of asking at a time, in a task of its own. Event loop only."""

    def __init__(
        self,
        unload: Unload | None,
        clock: Clock,
        on_done: Callable[[Sequence[UnloadReport]], None],
    ) -> None:
        """``unload`` asks all configured neighbours (None if there are none) and does not raise;
        ``on_done`` receives its reports."""
        self._unload = unload
        self._clock = clock
        self._on_done = on_done
        self._task: asyncio.Task[None] | None = None
        self._after_exhaustion = False
        self.forget()

    @property
    def configured(self) -> bool:
        """Whether there are neighbours to ask."""
        return self._unload is not None

    def view(self) -> NeighbourView:
        """The current state, for a decision."""
        asking, now = self._task is not None, self._clock()
        return NeighbourView(
            may_be_asked=self.configured and not asking and now >= self._ask_again_at,
            may_still_free=asking or now < self._settled_at,
            must_answer=asking and self._after_exhaustion,
        )

    def ask(self) -> None:
        """Start a round, unless one is under way."""
        self._forgotten = False
        if self._unload is not None and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._ask(self._unload))

    def exhausted(self) -> None:
        """A job ran out of memory: ask now, however much the driver reports as free. A neighbour
        may have freed the memory it took during the job, and will take it again."""
        self._after_exhaustion = True
        self.ask()

    def forget(self) -> None:
        """No job waits any more: the next one may ask at once. A round under way finishes by
        itself, so that its outcome is counted."""
        self._interval_s = SETTLE_S
        self._ask_again_at = self._settled_at = self._clock()
        self._forgotten = True

    def close(self) -> None:
        """Cancel the round under way."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _ask(self, unload: Unload) -> None:
        reports: Sequence[UnloadReport] = ()
        try:
            reports = await unload()
        except Exception:  # noqa: BLE001 - an optional courtesy must not stop the queue
            _log.exception("the neighbours on the GPU could not be asked to unload")
        self._task, self._after_exhaustion = None, False
        if not self._forgotten:
            now = self._clock()
            if any(report.outcome in _MAY_STILL_FREE for report in reports):
                self._settled_at = now + SETTLE_S
            self._ask_again_at = now + self._interval_s
            self._interval_s = min(2 * self._interval_s, LONGEST_INTERVAL_S)
        self._on_done(reports)
