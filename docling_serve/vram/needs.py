"""How much GPU memory a kind of task takes: a guess first, then what was seen.

The figure of a kind is a maximum that decays: one large document raises it at once, and small
ones after it lower it slowly. A task that ran out of memory raises it without having been seen to
the end.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MIB = 1024**2

MARGIN_SHARE = 0.10
MARGIN_LEAST_BYTES = 256 * MIB
"""What is asked for beyond a learned figure: readings are half a second apart, so they miss the
very peak, and documents differ."""

DECAY = 0.1
"""The part of the way down to a smaller peak that the figure goes with each task."""

NOTHING_BYTES = 64 * MIB
"""Less than the smallest CUDA context (120 MB, ggml-org/llama.cpp PR 20595): no GPU was used."""

OUT_OF_MEMORY_FACTOR = 1.25

MAX_KINDS = 256
"""Kinds remembered; the one not seen for longest is forgotten."""


@dataclass(frozen=True)
class Need:
    """What a worker must find free before it may load models. ``margin_bytes`` comes on top of
    ``figure_bytes``; ``learned`` is False for the guess made before the first task of a kind."""

    figure_bytes: int
    margin_bytes: int = 0
    learned: bool = False

    @property
    def total_bytes(self) -> int:
        """Figure and margin."""
        return self.figure_bytes + self.margin_bytes


class NeedBook:
    """What is known of each kind; ``reserve_bytes`` is the guess for one never seen."""

    def __init__(self, reserve_bytes: int, max_kinds: int = MAX_KINDS) -> None:
        self._reserve_bytes = reserve_bytes
        self._max_kinds = max_kinds
        self._figures: OrderedDict[str, float] = OrderedDict()

    def need(self, kind: str) -> Need:
        """What a task of ``kind`` needs; nothing for one that was seen to use no GPU."""
        figure = self._figures.get(kind)
        if figure is None:
            return Need(self._reserve_bytes)
        if figure < NOTHING_BYTES:
            return Need(0, learned=True)
        margin = max(MARGIN_LEAST_BYTES, round(figure * MARGIN_SHARE))
        return Need(round(figure), margin, learned=True)

    def observe(self, kind: str, peak_bytes: int, *, completed: bool = True) -> None:
        """A worker that ran only tasks of ``kind`` took ``peak_bytes``, its context included.

        One that was not ``completed`` might have taken more: it can raise the figure, not lower it.
        """
        figure = self._figures.get(kind)
        if completed:
            decayed = 0.0 if figure is None else figure - (figure - peak_bytes) * DECAY
            self._set(kind, max(float(peak_bytes), decayed))
        elif peak_bytes > (self._reserve_bytes if figure is None else figure):
            self._set(kind, float(peak_bytes))

    def out_of_memory(self, kind: str, peak_bytes: int = 0) -> None:
        """A task of ``kind`` ran out of GPU memory: the next one waits for a quarter more."""
        figure = self._figures.get(kind, 0.0)
        if figure < NOTHING_BYTES:  # never seen, or wrongly thought to use no GPU
            figure = float(self._reserve_bytes)
        self._set(kind, max(figure, float(peak_bytes)) * OUT_OF_MEMORY_FACTOR)

    def _set(self, kind: str, figure: float) -> None:
        self._figures[kind] = figure
        self._figures.move_to_end(kind)
        while len(self._figures) > self._max_kinds:
            self._figures.popitem(last=False)
