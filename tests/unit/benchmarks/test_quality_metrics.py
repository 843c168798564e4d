"""The figures of the quality benchmark, on documents whose faults are known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

pytest.importorskip("apted", reason="the extra dev is not installed: no tree edit distance")

from docling_core.types.doc.document import DoclingDocument
from docling_core.types.doc.items.table.table_data import TableCell, TableData
from docling_core.types.doc.labels import DocItemLabel

from benchmarks.quality.metrics import Found, order, scores, teds

GRID = [["Place", "Depth"], ["North pier", "7"], ["South pier", "12"]]


def _table(rows: Sequence[Sequence[str]], wide: int = 1) -> TableData:
    """``wide`` columns are spanned by the first cell; the cells that it covers are left out."""
    cells = []
    for row, texts in enumerate(rows):
        for column, text in enumerate(texts):
            spans = wide if (row, column) == (0, 0) else 1
            if row == 0 and 0 < column < wide:
                continue
            cells.append(
                TableCell(
                    text=text,
                    start_row_offset_idx=row,
                    end_row_offset_idx=row + 1,
                    start_col_offset_idx=column,
                    end_col_offset_idx=column + spans,
                    col_span=spans,
                )
            )
    return TableData(table_cells=cells, num_rows=len(rows), num_cols=len(rows[0]))


def _document(
    headings: Sequence[str] = ("Spring", "Summer"),
    texts: Sequence[str] = ("The lamp was cleaned twice.", "The ferry came late again."),
    items: Sequence[str] = ("Oil the hinges", "Paint the door"),
    tables: Sequence[TableData] = (),
    captions: Sequence[str | None] = (),
) -> DoclingDocument:
    document = DoclingDocument(name="log")
    for heading in headings:
        document.add_heading(heading)
    for text in texts:
        document.add_text(DocItemLabel.TEXT, text)
    group = document.add_list_group()
    for item in items:
        document.add_list_item(item, parent=group)
    for table in tables:
        document.add_table(table)
    for caption in captions:
        tied = document.add_text(DocItemLabel.CAPTION, caption) if caption else None
        document.add_picture(caption=tied)
    return document


def test_a_document_is_like_itself() -> None:
    one = _document(tables=[_table(GRID)], captions=["Figure 1: The pier."])

    figures = scores(one, one)

    found = (figures.headings, figures.list_items, figures.tables, figures.pictures)
    assert [each.f1 for each in (*found, figures.captions)] == [1.0] * 5
    assert figures.teds == (1.0,)
    assert figures.order == figures.text == 1.0


def test_a_missed_and_an_invented_heading_count_once_each() -> None:
    figures = scores(_document(), _document(headings=("Spring", "A line that is none")))

    assert figures.headings == Found(right=1, expected=2, found=2)
    assert figures.headings.f1 == 0.5


def test_where_nothing_is_expected_or_found_there_is_no_figure() -> None:
    assert scores(_document(), _document()).tables.f1 is None


def test_a_heading_with_another_spelling_is_the_same() -> None:
    figures = scores(_document(headings=("Opening hours",)), _document(headings=("Opening hour5",)))

    assert figures.headings.f1 == 1.0


def test_a_table_that_is_missing_has_no_structure() -> None:
    figures = scores(_document(tables=[_table(GRID)]), _document())

    assert figures.tables.f1 == 0.0
    assert figures.teds == (0.0,)


def test_a_table_is_compared_with_the_one_that_has_its_text() -> None:
    other = _table([["Lamp", "Oil"], ["Harbour", "Mole"]])
    figures = scores(
        _document(tables=[_table(GRID), other]), _document(tables=[other, _table(GRID)])
    )

    assert figures.tables.f1 == 1.0
    assert figures.teds == (1.0, 1.0)


@pytest.mark.parametrize(
    ("rows", "wide", "expected"),
    [
        (GRID, 1, 1.0),
        # One of the ten nodes (table, three rows, six cells) is missing, or has another name.
        (GRID, 2, 0.8),
        ([["Place and depth", "7"], *GRID[1:]], 1, 1.0),  # the text does not count
        (GRID[:2], 1, 0.7),  # a row and its two cells
    ],
)
def test_teds_counts_the_nodes_that_differ(
    rows: Sequence[Sequence[str]], wide: int, expected: float
) -> None:
    assert teds(_table(GRID), _table(rows, wide)) == pytest.approx(expected)


def test_a_caption_counts_only_where_it_is_tied() -> None:
    reference = _document(captions=["Figure 1: The pier."])
    loose = _document(texts=("Figure 1: The pier.",), captions=[None])

    figures = scores(reference, loose)

    assert figures.pictures.f1 == 1.0
    assert figures.captions == Found(right=0, expected=1, found=0)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["first part", "second bit", "third end"], 1.0),
        (["second bit", "first part", "third end"], 2 / 3),
        (["third end", "second bit", "first part"], 0.0),
        (["first part", "third end"], 1.0),  # what is missing does not count
        (["first part and second bit and third end"], 1.0),  # run together
        ([], 1.0),
    ],
)
def test_order_is_the_share_of_pairs_that_are_right(parts: Sequence[str], expected: float) -> None:
    assert order(["First part", "Second bit", "Third end"], parts) == pytest.approx(expected)


def test_lost_text_lowers_the_figure_for_text() -> None:
    figures = scores(_document(), _document(texts=()))

    assert 0.3 < figures.text < 0.7
