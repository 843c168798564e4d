"""The grid of a table in its words and rules, and the rules in its image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from docling_serve.ocr_only.boxes import Box
from docling_serve.ocr_only.ruled_grid import Rules
from docling_serve.ocr_only.rules import rules_in
from docling_serve.ocr_only.table_grid import TableGrid, Word, table_grid

BOX = Box(0, 0, 400, 200)
STEP = 100


def word(text: str, left: float, top: float) -> Word:
    return Word(left, top, left + 6 * len(text), top + 10, text)


def words_of(rows: Sequence[Sequence[str]]) -> list[Word]:
    return [
        word(text, 4 + STEP * c, 5 + 20 * r)
        for r, row in enumerate(rows)
        for c, text in enumerate(row)
        if text
    ]


def texts(grid: TableGrid) -> list[tuple[int, int, int, int, str]]:
    return [(c.row, c.column, c.row_span, c.column_span, c.text) for c in grid.cells]


def test_open_columns_are_found_and_empty_cells_are_cells() -> None:
    rows = [
        ("Position", "Text", "Amount"),
        ("1", "Coal", "12.00"),
        ("2", "Boat", "7.00"),
        ("", "Total", "19.00"),
    ]
    grid = table_grid(words_of(rows), Rules(), BOX)
    assert (grid.rows, grid.columns) == (4, 3)
    assert [cell.text for cell in grid.cells] == [text for row in rows for text in row]
    assert [cell.text for cell in grid.cells if cell.is_header] == list(rows[0])


def test_words_with_a_space_between_are_one_cell() -> None:
    line = [word("Two", 4, 5), word("boats", 26, 5), word("x", 200, 5)]
    below = [word("Nets", 4, 25), word("y", 200, 25)]
    assert [c.text for c in table_grid([*line, *below], Rules(), BOX).cells] == [
        "Two boats",
        "x",
        "Nets",
        "y",
    ]


def test_a_heading_between_two_columns_spans_both() -> None:
    top = [word("Training", 134, 5)]
    rest = [
        Word(one.left, one.top + 20, one.right, one.bottom + 20, one.text)
        for one in words_of(
            [("Model", "Loss", "Score"), ("Small", "22", "31"), ("Large", "20", "35")]
        )
    ]
    cells = texts(table_grid([*top, *rest], Rules(), BOX))
    assert (0, 1, 1, 2, "Training") in cells
    assert (1, 2, 1, 1, "Score") in cells


def test_a_further_line_belongs_to_the_cell_above() -> None:
    words = [
        *words_of([("Rope", "Most visitors")]),
        word("came early", 4 + STEP, 17),
        word("Lamp", 4, 45),
        word("Old", 4 + STEP, 45),
    ]
    grid = table_grid(words, Rules(), BOX)
    assert [cell.text for cell in grid.cells] == ["Rope", "Most visitors came early", "Lamp", "Old"]


def ruled(xs: Sequence[float], ys: Sequence[float]) -> Rules:
    return Rules(
        tuple(Box(xs[0], y, xs[-1], y + 1) for y in ys),
        tuple(Box(x, ys[0], x + 1, ys[-1]) for x in xs),
    )


def test_rules_are_the_grid() -> None:
    rules = ruled([0, 100, 200], [0, 20, 40])
    grid = table_grid(words_of([("A", "B"), ("C", "D")]), rules, Box(0, 0, 200, 40))
    assert texts(grid) == [
        (0, 0, 1, 1, "A"),
        (0, 1, 1, 1, "B"),
        (1, 0, 1, 1, "C"),
        (1, 1, 1, 1, "D"),
    ]


def test_cells_span_what_no_rule_divides() -> None:
    whole = ruled([0, 100, 200, 300], [0, 20, 40, 60])
    # The first column has no rule between its first two rows, the first row none between 2 and 3.
    rules = Rules(
        (whole.horizontal[0], Box(100, 20, 300, 21), *whole.horizontal[2:]),
        (*whole.vertical[:2], Box(200, 20, 201, 60), whole.vertical[3]),
    )
    words = [
        word("Region", 4, 15),
        word("Half", 180, 5),
        *words_of([(), ("", "S", "R"), ("N", "1", "2")]),
    ]
    grid = table_grid(words, rules, Box(0, 0, 300, 60))
    assert (0, 0, 2, 1, "Region") in texts(grid)
    assert (0, 1, 1, 2, "Half") in texts(grid)
    assert {cell.text for cell in grid.cells if cell.is_header} == {"Region", "Half", "S", "R"}


def test_no_words_no_grid() -> None:
    assert table_grid([], Rules(), BOX) == TableGrid(0, 0, ())


def test_rules_of_an_image_are_found_and_letters_are_none() -> None:
    image = np.full((200, 400), 245, np.uint8)
    image[50:52, 20:380] = 60
    image[20:180, 100:102] = 60
    image[120:130, 200:212] = 30  # a letter
    rules = rules_in(image, 2.0, 10.0, 5.0)
    (lying,), (standing,) = rules.horizontal, rules.vertical
    assert abs(lying.left - 20) < 1
    assert abs(lying.right - 200) < 1
    assert abs((lying.top + lying.bottom) / 2 - (25.5 + 5)) < 1
    assert abs((standing.left + standing.right) / 2 - (50.5 + 10)) < 1


def test_a_rule_of_a_turned_scan_is_one_rule() -> None:
    image = np.full((120, 600), 245, np.uint8)
    for x in range(20, 580):
        y = 50 + round((x - 20) * 0.008)
        image[y : y + 2, x] = 60
    assert len(rules_in(image, 2.0, 0.0, 0.0).horizontal) == 1
