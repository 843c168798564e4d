"""The garbage collector rests during imports, and only then."""

from __future__ import annotations

import gc

import pytest

from docling_serve.collector import gc_paused


def test_it_rests_meanwhile() -> None:
    with gc_paused():
        assert not gc.isenabled()

    assert gc.isenabled()


def test_it_works_on_after_a_failure() -> None:
    with pytest.raises(ImportError), gc_paused():
        raise ImportError

    assert gc.isenabled()


def test_what_came_meanwhile_is_not_looked_at_again() -> None:
    gc.collect()
    before = gc.get_freeze_count()

    with gc_paused():
        kept = [[] for _ in range(1000)]  # type: list[list[int]]

    assert gc.get_freeze_count() >= before + len(kept)
    gc.unfreeze()
