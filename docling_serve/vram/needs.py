"""How much GPU memory a kind of task takes: a guess at first, then what was measured.

The figure of a kind is the largest peak among its last tasks. A task that ran out of memory raises
it, although its full need was not seen.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

MIB = 1024**2

MARGIN_SHARE = 0.10
MARGIN_LEAST_BYTES = 256 * MIB
"""Requested on top of a learned figure: readings are half a second apart, so they miss the exact
peak, and documents differ."""

LAST_TASKS = 32
"""How many tasks of a kind count. Their maximum is used, not a moving average: after many PDFs with
a text layer the next scan needs as much as the last one did."""

NOTHING_BYTES = 64 * MIB
"""Less than the smallest CUDA context (120 MB, ggml-org/llama.cpp PR 20595): no GPU was used."""

FLOOR_BYTES = 512 * MIB
"""The least that a task which may use CUDA is assumed to need: a context, and the libraries that
its first operation loads."""

OUT_OF_MEMORY_FACTOR = 1.25

MAX_KINDS = 256
"""Kinds remembered; the least recently seen is forgotten first."""


@dataclass(frozen=True)
class Need:
    """What a worker must find free before it may load models. ``margin_bytes`` is added to
    ``figure_bytes``; ``learned`` is False for the guess made before the first task of a kind."""

    figure_bytes: int
    margin_bytes: int = 0
    learned: bool = False

    @property
    def total_bytes(self) -> int:
        """Figure and margin."""
        return self.figure_bytes + self.margin_bytes


class NeedBook:
    """What is known about each kind; ``reserve_bytes`` is the guess for an unknown one."""

    def __init__(self, reserve_bytes: int, max_kinds: int = MAX_KINDS) -> None:
        self._reserve_bytes = reserve_bytes
        self._max_kinds = max_kinds
        self._peaks: OrderedDict[str, deque[int]] = OrderedDict()

    def need(self, kind: str) -> Need:
        """What a task of ``kind`` that may use CUDA needs."""
        peaks = self._peaks.get(kind)
        if peaks is None:
            return Need(self._reserve_bytes)
        figure = max(peaks)
        if figure < NOTHING_BYTES:
            return Need(FLOOR_BYTES, learned=True)
        margin = max(MARGIN_LEAST_BYTES, round(figure * MARGIN_SHARE))
        return Need(max(FLOOR_BYTES, figure), margin, learned=True)

    def observe(
        self, kind: str, peak_bytes: int, *, completed: bool = True, proven: bool = True
    ) -> None:
        """A worker that ran only tasks of ``kind`` took ``peak_bytes``, its context included.

        If it was not ``completed`` it might have taken more: it can raise the figure, not lower it.
        That it took nothing must be ``proven``: OCR opens its models at the first page that needs
        it, so a PDF with a text layer says nothing about the kind.
        """
        if peak_bytes < NOTHING_BYTES and not proven:
            return
        peaks = self._peaks.get(kind)
        known = self._reserve_bytes if peaks is None else max(peaks)
        if completed or peak_bytes > known:
            self._note(kind, peak_bytes)

    def out_of_memory(self, kind: str, peak_bytes: int = 0) -> None:
        """A task of ``kind`` ran out of GPU memory: the next one waits for a quarter more, and at
        least for the reserve."""
        seen = max(self._peaks.get(kind, (0,)))
        if seen < NOTHING_BYTES:  # never measured, or wrongly thought to use no GPU
            seen = self._reserve_bytes
        wanted = round(max(seen, peak_bytes) * OUT_OF_MEMORY_FACTOR)
        self._note(kind, max(wanted, self._reserve_bytes))

    def _note(self, kind: str, peak_bytes: int) -> None:
        self._peaks.setdefault(kind, deque(maxlen=LAST_TASKS)).append(peak_bytes)
        self._peaks.move_to_end(kind)
        while len(self._peaks) > self._max_kinds:
            self._peaks.popitem(last=False)
