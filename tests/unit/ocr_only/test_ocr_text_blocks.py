"""Lines to blocks: pure geometry, on a page of made-up points."""

import random

import pytest

from docling_serve.ocr_only.text_blocks import Line, group_into_blocks

HEIGHT, PITCH = 10.0, 14.0
LEFT, RIGHT = 50.0, 545.0


class Sheet:
    """Collects lines; the text stands for the line in what the tests compare."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.lines: list[Line] = []

    def put(self, text: str, left: float, top: float, right: float, height: float = HEIGHT) -> None:
        self.lines.append(Line(len(self.texts), left, top, right, top + height))
        self.texts.append(text)

    def put_column(self, name: str, count: int, left: float, right: float, top: float) -> float:
        for number in range(count):
            self.put(f"{name}{number}", left, top + number * PITCH, right)
        return top + count * PITCH

    def blocks(self) -> list[list[str]]:
        return [
            [self.texts[line.index] for line in block] for block in group_into_blocks(self.lines)
        ]


@pytest.fixture
def sheet() -> Sheet:
    return Sheet()


def test_a_blank_page_has_no_blocks(sheet: Sheet) -> None:
    assert sheet.blocks() == []


def test_lines_that_follow_closely_are_one_block(sheet: Sheet) -> None:
    top = sheet.put_column("a", 3, LEFT, RIGHT, 100)
    sheet.put_column("b", 2, LEFT, RIGHT, top + HEIGHT)
    assert sheet.blocks() == [["a0", "a1", "a2"], ["b0", "b1"]]


def test_the_order_of_the_input_does_not_matter(sheet: Sheet) -> None:
    top = sheet.put_column("a", 4, LEFT, 280, 100)
    sheet.put_column("b", 4, 310, RIGHT, 100)
    sheet.put_column("c", 2, LEFT, RIGHT, top + HEIGHT)
    expected = sheet.blocks()
    random.Random(7).shuffle(sheet.lines)
    assert sheet.blocks() == expected
    assert [name for block in expected for name in block][:5] == ["a0", "a1", "a2", "a3", "b0"]


def test_a_larger_line_is_a_block_of_its_own(sheet: Sheet) -> None:
    sheet.put("title", LEFT, 80, 200, height=18)
    sheet.put_column("a", 2, LEFT, RIGHT, 102)
    assert sheet.blocks() == [["title"], ["a0", "a1"]]


def test_pieces_of_a_row_are_read_left_to_right(sheet: Sheet) -> None:
    sheet.put("right", 300, 101, RIGHT)
    sheet.put("left", LEFT, 99, 296)
    assert sheet.blocks() == [["left", "right"]]


def test_columns_are_read_one_after_the_other(sheet: Sheet) -> None:
    sheet.put("headline", LEFT, 60, RIGHT, height=16)
    sheet.put_column("a", 5, LEFT, 200, 100)
    sheet.put_column("b", 5, 215, 370, 103)
    sheet.put_column("c", 3, 385, RIGHT, 97)
    sheet.put("footer", LEFT, 200, RIGHT)
    assert sheet.blocks() == [
        ["headline"],
        ["a0", "a1", "a2", "a3", "a4"],
        ["b0", "b1", "b2", "b3", "b4"],
        ["c0", "c1", "c2"],
        ["footer"],
    ]


def test_a_paragraph_keeps_its_short_last_line_above_columns(sheet: Sheet) -> None:
    sheet.put("intro", LEFT, 80, RIGHT)
    sheet.put("ends.", LEFT, 80 + PITCH, 120)
    sheet.put_column("a", 4, LEFT, 280, 120)
    sheet.put_column("b", 4, 310, RIGHT, 120)
    assert sheet.blocks()[0] == ["intro", "ends."]
    assert sheet.blocks()[1:] == [["a0", "a1", "a2", "a3"], ["b0", "b1", "b2", "b3"]]


def test_a_longer_left_column_comes_before_the_right_one(sheet: Sheet) -> None:
    sheet.put_column("a", 6, LEFT, 280, 100)
    sheet.put_column("b", 3, 310, RIGHT, 100)
    assert sheet.blocks() == [[f"a{n}" for n in range(6)], ["b0", "b1", "b2"]]


def test_cells_of_a_table_stay_in_their_rows(sheet: Sheet) -> None:
    for number in range(4):
        top = 100 + number * PITCH
        sheet.put(f"item{number}", LEFT, top, 160)
        sheet.put(f"price{number}", 300, top, 340)
    assert sheet.blocks() == [[f"item{n}", f"price{n}"] for n in range(4)]


def test_two_rows_side_by_side_are_not_columns(sheet: Sheet) -> None:
    sheet.put_column("a", 2, LEFT, 280, 100)
    sheet.put_column("b", 2, 310, RIGHT, 100)
    assert sheet.blocks() == [["a0", "b0"], ["a1", "b1"]]


def test_a_turned_page_keeps_its_rows(sheet: Sheet) -> None:
    for number in range(6):
        left, right = 100 + number * PITCH, 100 + number * PITCH + 4
        sheet.put(f"a{number}", LEFT, left, 280)
        sheet.put(f"b{number}", 310, right, RIGHT)
    assert sheet.blocks() == [[f"a{n}" for n in range(6)], [f"b{n}" for n in range(6)]]


def test_boxes_without_height_do_not_break_the_page(sheet: Sheet) -> None:
    for number in range(6):
        sheet.put(str(number), LEFT, 100.0 * number, RIGHT, height=0)
    assert sheet.blocks() == [["0"], ["1"], ["2"], ["3"], ["4"], ["5"]]


@pytest.mark.parametrize("seed", range(20))
def test_every_line_comes_back_once(seed: int, sheet: Sheet) -> None:
    chance = random.Random(seed)
    for number in range(60):
        left, top = chance.uniform(0, 500), chance.uniform(0, 800)
        sheet.put(str(number), left, top, left + chance.uniform(0, 300), chance.uniform(0, 40))
    read = [text for block in sheet.blocks() for text in block]
    assert sorted(read) == sorted(sheet.texts)
