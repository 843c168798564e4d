from __future__ import annotations

import pytest

from docling_serve.vram.needs import (
    FLOOR_BYTES,
    LAST_TASKS,
    MARGIN_LEAST_BYTES,
    MAX_KINDS,
    NeedBook,
)

GIB = 1024**3
MIB = 1024**2
RESERVE = 3 * GIB


def learned(*peaks: int) -> NeedBook:
    book = NeedBook(RESERVE)
    for peak in peaks:
        book.observe("ocr", peak)
    return book


def test_a_kind_never_seen_needs_the_reserve_as_it_is() -> None:
    need = NeedBook(RESERVE).need("ocr")

    assert (need.total_bytes, need.learned) == (RESERVE, False)


def test_what_was_seen_replaces_the_guess_and_gets_a_margin() -> None:
    need = learned(8 * GIB).need("ocr")

    assert need.learned
    assert need.figure_bytes == 8 * GIB
    assert need.margin_bytes == round(0.8 * GIB)
    assert need.total_bytes == need.figure_bytes + need.margin_bytes


def test_a_small_figure_gets_the_least_margin() -> None:
    assert learned(GIB).need("ocr").margin_bytes == MARGIN_LEAST_BYTES


def test_kinds_are_apart() -> None:
    assert learned(GIB).need("vlm").total_bytes == RESERVE


def test_the_largest_of_the_last_tasks_counts() -> None:
    large_one = [GIB, 5 * GIB]

    def figure(*peaks: int) -> float:
        return learned(*peaks).need("ocr").figure_bytes / GIB

    assert figure(GIB) == 1
    assert figure(*large_one) == 5
    assert figure(*large_one, *[GIB] * (LAST_TASKS - 1)) == 5
    assert figure(*large_one, *[GIB] * LAST_TASKS) == 1


def test_a_kind_that_used_no_gpu_keeps_a_floor() -> None:
    need = learned(10 * MIB).need("ocr")

    assert (need.total_bytes, need.learned) == (FLOOR_BYTES, True)
    assert learned(100 * MIB).need("ocr").figure_bytes == FLOOR_BYTES


def test_one_pdf_with_a_text_layer_teaches_nothing() -> None:
    book = NeedBook(RESERVE)
    book.observe("ocr", 0, proven=False)
    assert not book.need("ocr").learned

    book.observe("ocr", 4 * GIB)
    book.observe("ocr", 0, proven=False)
    assert book.need("ocr").figure_bytes == 4 * GIB


def test_a_task_that_did_not_end_well_raises_but_never_lowers() -> None:
    book = learned(4 * GIB)

    book.observe("ocr", GIB, completed=False)
    assert book.need("ocr").figure_bytes == 4 * GIB
    book.observe("ocr", 6 * GIB, completed=False)
    assert book.need("ocr").figure_bytes == 6 * GIB


def test_a_first_task_that_was_cancelled_teaches_nothing_below_the_reserve() -> None:
    book = NeedBook(RESERVE)

    book.observe("ocr", GIB, completed=False)

    assert not book.need("ocr").learned


@pytest.mark.parametrize(
    ("seen", "peak", "expected"),
    [
        ([], 0, 1.25 * RESERVE),
        ([2 * GIB], 0, RESERVE),
        ([4 * GIB], 0, 1.25 * 4 * GIB),
        ([2 * GIB], 4 * GIB, 1.25 * 4 * GIB),
        ([0], 0, 1.25 * RESERVE),
    ],
    ids=[
        "never seen",
        "less than the reserve",
        "learned",
        "its peak was larger",
        "thought to need no GPU",
    ],
)
def test_out_of_memory_asks_for_a_quarter_more(seen: list[int], peak: int, expected: float) -> None:
    book = learned(*seen)

    book.out_of_memory("ocr", peak)

    need = book.need("ocr")
    assert (need.figure_bytes, need.learned) == (expected, True)


def test_the_kinds_remembered_are_bounded() -> None:
    book = NeedBook(RESERVE)
    book.observe("first", GIB)
    for number in range(MAX_KINDS):
        book.observe(f"kind {number}", GIB)

    assert not book.need("first").learned
    assert book.need("kind 0").learned
