"""Which loaded models are kept, and for how long. Does not depend on docling.

A request needs some models; together they are its *model set*. Sets are kept, and the least
recently used go first; a model that two sets need is loaded once. Needs are compared by *keys*: a
key holds everything a model was created from, and keys are compared by ``==``.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Model = TypeVar("Model")

# One load at a time in a process, as docling does it: loading through transformers is not safe
# in two threads at once.
_LOADING = threading.Lock()


@dataclass(frozen=True)
class ConverterStats:
    """How often a request that needs models found its set, and how many sets are kept."""

    hits: int = 0
    misses: int = 0
    model_sets: int = 0


class ModelSet:
    """The models of one selection that are loaded so far. Filled by :class:`ModelSets`."""

    def __init__(self, keys: Sequence[object]) -> None:
        self.keys = list(keys)
        self._models: list[tuple[object, Any]] = []
        #: Whether one of them has weights.
        self.weighs = False

    def __len__(self) -> int:
        return len(self._models)

    def find(self, key: object) -> Any:
        """The model of ``key``, or None."""
        return next((model for known, model in self._models if known == key), None)

    def add(self, key: object, model: Any) -> None:
        """Hold ``model`` from now on."""
        self._models.append((key, model))


class ModelSets:
    """At most ``limit`` kept model sets, and those that requests still use. Thread-safe."""

    def __init__(self, limit: int, weighs: Callable[[Any], bool] = lambda _: True) -> None:
        """``weighs`` says whether a model has weights."""
        self._limit = max(limit, 0)
        self._weighs = weighs
        self._lock = threading.Lock()
        self._kept: list[ModelSet] = []  # least recently used first
        self._alive: weakref.WeakSet[ModelSet] = weakref.WeakSet()
        self._hits = 0
        self._misses = 0

    @property
    def stats(self) -> ConverterStats:
        with self._lock:
            return ConverterStats(self._hits, self._misses, len(self._kept))

    @property
    def holds_models(self) -> bool:
        """Whether any weights are loaded, for a kept set or for a running request."""
        with self._lock:
            return any(model_set.weighs for model_set in self._alive)

    def open(self, keys: Sequence[object]) -> ModelSet:
        """The set of a request that needs ``keys``; the caller holds it while it uses its models.

        A new set takes over the models that it shares with loaded sets. Then the least recently
        used sets go, before anything is loaded, so that memory never holds more than ``limit`` of
        them.
        """
        with self._lock:
            wanted = list(keys)
            for kept in self._kept:
                if kept.keys == wanted:
                    self._hits += 1
                    self._kept.remove(kept)
                    self._kept.append(kept)
                    return kept
            self._misses += 1
            opened = ModelSet(wanted)
            for key in wanted:
                model = self._find(key)
                if model is not None:
                    self._add(opened, key, model)
            self._alive.add(opened)
            self._make_room(max(self._limit - 1, 0))
            return opened

    def model(self, model_set: ModelSet, key: object, load: Callable[[], Model]) -> Model:
        """The model of ``key``, loaded unless a live set has it; ``model_set`` then holds it."""
        with self._lock:
            model = self._take(model_set, key)
        if model is None:
            with _LOADING:
                with self._lock:  # another thread may have loaded it meanwhile
                    model = self._take(model_set, key)
                if model is None:
                    model = load()
                    with self._lock:
                        self._add(model_set, key, model)
        found: Model = model
        return found

    def keep(self, model_set: ModelSet) -> None:
        """Keep a set whose models were loaded; one that could not be loaded is never kept."""
        with self._lock:
            if self._limit and all(model_set.keys != kept.keys for kept in self._kept):
                self._make_room(self._limit - 1)
                self._kept.append(model_set)

    def clear(self) -> None:
        """Drop all kept sets. Models that a running request uses are freed when it ends."""
        with self._lock:
            self._kept.clear()

    def _make_room(self, count: int) -> None:
        del self._kept[: max(len(self._kept) - count, 0)]

    def _add(self, model_set: ModelSet, key: object, model: Any) -> None:
        model_set.add(key, model)
        model_set.weighs = model_set.weighs or self._weighs(model)

    def _take(self, model_set: ModelSet, key: object) -> Any:
        model = model_set.find(key)
        if model is None:
            model = self._find(key)
            if model is not None:
                self._add(model_set, key, model)
        return model

    def _find(self, key: object) -> Any:
        return next(
            (model for live in self._alive if (model := live.find(key)) is not None),
            None,
        )
