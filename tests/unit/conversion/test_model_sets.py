"""Which models are kept, shared and dropped."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable

import pytest

from docling_serve.conversion.model_sets import ConverterStats, ModelSet, ModelSets

LAYOUT: object = ("layout", {"weights": "heron"})
OCR: object = ("ocr", {"lang": ["en"]})
OTHER_OCR: object = ("ocr", {"lang": ["de"]})


class Weights:
    """What a load gives; counts are kept by the loader."""


class Loader:
    """Loads weights, and knows how often it did and which are still there."""

    def __init__(self) -> None:
        self.loaded: list[weakref.ref[Weights]] = []

    def __call__(self) -> Weights:
        weights = Weights()
        self.loaded.append(weakref.ref(weights))
        return weights

    @property
    def alive(self) -> int:
        gc.collect()
        return sum(ref() is not None for ref in self.loaded)


def use(sets: ModelSets, keys: list[object], load: Callable[[], Weights]) -> ModelSet:
    """What a request does."""
    model_set = sets.open(keys)
    for key in keys:
        sets.model(model_set, key, load)
    sets.keep(model_set)
    return model_set


def test_an_equal_selection_finds_its_set() -> None:
    sets, load = ModelSets(2), Loader()
    use(sets, [LAYOUT, OCR], load)
    use(sets, [("layout", {"weights": "heron"}), ("ocr", {"lang": ["en"]})], load)
    assert len(load.loaded) == 2
    assert sets.stats == ConverterStats(hits=1, misses=1, model_sets=1)


def test_another_selection_takes_over_what_it_shares() -> None:
    sets, load = ModelSets(2), Loader()
    first = use(sets, [LAYOUT, OCR], load)
    second = use(sets, [LAYOUT, OTHER_OCR], load)
    assert first.find(LAYOUT) is second.find(LAYOUT)
    assert first.find(OCR) is not second.find(OTHER_OCR)
    assert sets.stats == ConverterStats(hits=0, misses=2, model_sets=2)


def test_the_least_recently_used_set_goes() -> None:
    sets, load = ModelSets(2), Loader()
    for key in (OCR, OTHER_OCR, OCR, LAYOUT):
        use(sets, [key], load)
    assert load.alive == 2
    use(sets, [OCR], load)
    assert sets.stats == ConverterStats(hits=2, misses=3, model_sets=2)
    use(sets, [OTHER_OCR], load)
    assert len(load.loaded) == 4


def test_room_is_made_before_the_next_models_load() -> None:
    sets, load = ModelSets(1), Loader()
    use(sets, [OCR], load)
    alive_at_load = []

    def load_and_look() -> Weights:
        alive_at_load.append(load.alive)
        return load()

    use(sets, [OTHER_OCR], load_and_look)
    assert alive_at_load == [0]


def test_a_shared_model_survives_the_set_that_loaded_it() -> None:
    sets, load = ModelSets(1), Loader()
    use(sets, [LAYOUT, OCR], load)
    use(sets, [LAYOUT], load)
    assert len(load.loaded) == 2
    assert load.alive == 1


def test_without_room_models_live_as_long_as_their_request() -> None:
    sets, load = ModelSets(0), Loader()
    running = use(sets, [OCR], load)
    assert sets.holds_models
    del running
    assert load.alive == 0
    assert not sets.holds_models
    assert sets.stats == ConverterStats(hits=0, misses=1, model_sets=0)


def test_a_set_that_failed_to_load_is_not_kept() -> None:
    sets, load = ModelSets(2), Loader()

    def fail() -> Weights:
        raise FileNotFoundError("no weights")

    model_set = sets.open([LAYOUT, OCR])
    sets.model(model_set, LAYOUT, load)
    with pytest.raises(FileNotFoundError):
        sets.model(model_set, OCR, fail)
    del model_set
    assert load.alive == 0
    assert sets.stats.model_sets == 0


def test_clear_drops_everything_but_what_a_request_still_uses() -> None:
    sets, load = ModelSets(2), Loader()
    use(sets, [OCR], load)
    running = use(sets, [LAYOUT], load)
    sets.clear()
    assert load.alive == 1
    assert sets.holds_models
    del running
    assert load.alive == 0
    assert not sets.holds_models


def test_an_opened_set_holds_no_models_yet() -> None:
    sets = ModelSets(2)
    opened = sets.open([OCR])
    assert len(opened) == 0
    assert not sets.holds_models


def test_two_threads_that_need_the_same_model_load_it_once() -> None:
    sets, load = ModelSets(2), Loader()
    loading, go_on = threading.Event(), threading.Event()
    found: list[Weights] = []

    def slow() -> Weights:
        loading.set()
        go_on.wait(10)
        return load()

    def request(loader: Callable[[], Weights]) -> None:
        model_set = sets.open([OCR])
        found.append(sets.model(model_set, OCR, loader))
        sets.keep(model_set)

    first = threading.Thread(target=request, args=(slow,))
    second = threading.Thread(target=request, args=(load,))
    first.start()
    assert loading.wait(10)
    second.start()
    go_on.set()
    first.join(10)
    second.join(10)
    assert len(load.loaded) == 1
    assert found[0] is found[1]
    assert sets.stats.model_sets == 1


def test_models_without_weights_are_kept_and_do_not_count_as_held() -> None:
    light = Weights()
    sets = ModelSets(2, weighs=lambda model: model is not light)
    use(sets, [LAYOUT], lambda: light)
    assert sets.stats.model_sets == 1
    assert not sets.holds_models

    use(sets, [LAYOUT, OCR], Loader())
    assert sets.holds_models
