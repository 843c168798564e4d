"""From lines and regions to labelled blocks: geometry, no documents."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from docling_serve.ocr_only.boxes import Box
from docling_serve.ocr_only.lists import list_items, spaced
from docling_serve.ocr_only.page_blocks import Block, PageContent, SeenText, page_blocks
from docling_serve.ocr_only.page_objects import PageObject, TextLine

PAGE = Box(0, 0, 595, 842)
BODY, BOLD = "Body", "Bold"


def line(
    index: int, text: str, left: float, top: float, *, high: float = 10, font: str = BODY
) -> TextLine:
    return TextLine(index, left, top, left + 5 * len(text), top + high, text, font)


def prose(index: int, top: float, left: float = 60) -> list[TextLine]:
    return [
        line(index + n, "The committee measured the depth of the water.", left, top + 13 * n)
        for n in range(3)
    ]


def labels(blocks: Sequence[Block]) -> list[tuple[str, str]]:
    return [(block.label, " ".join(one.text for one in block.lines)[:14]) for block in blocks]


def blocks_of(
    lines: Sequence[TextLine],
    texts: Sequence[SeenText] = (),
    objects: Sequence[PageObject] = (),
    bitmaps: Sequence[Box] = (),
) -> list[Block]:
    return page_blocks(PageContent(PAGE, lines, objects, texts, bitmaps))


def test_a_seen_title_is_a_heading_and_ends_where_prose_begins() -> None:
    seen = SeenText("title", 0.9, 58, 98, 120, 126)  # it cuts into the first line of the prose
    blocks = blocks_of([line(0, "Results", 60, 100, font=BOLD), *prose(1, 114)], [seen])
    assert labels(blocks) == [("heading", "Results"), ("text", "The committee ")]


def test_prose_that_was_seen_as_a_title_stays_prose() -> None:
    seen = SeenText("title", 0.9, 58, 98, 400, 140)
    assert [block.label for block in blocks_of(prose(0, 100), [seen])] == ["text"]


def test_letters_much_larger_than_the_others_are_a_heading_without_a_detector() -> None:
    blocks = blocks_of([line(0, "Annual report", 60, 100, high=18), *prose(1, 130)])
    assert labels(blocks)[0] == ("heading", "Annual report")


@pytest.mark.parametrize("font", [BOLD, BODY])
def test_another_font_makes_a_heading_where_no_detector_looked(font: str) -> None:
    blocks = blocks_of([line(0, "At night", 60, 100, font=font), *prose(1, 118)])
    expected = "heading" if font == BOLD else "text"
    assert labels(blocks)[0] == (expected, "At night")


def test_bold_words_that_begin_a_paragraph_are_no_heading() -> None:
    beside = TextLine(9, 112, 100, 300, 110, "Keep clear of the pier.", BODY)
    blocks = blocks_of([line(0, "Warning", 60, 100, font=BOLD), beside, *prose(1, 113)])
    assert "heading" not in [block.label for block in blocks]


def test_headers_and_footers_are_told_from_prose() -> None:
    lines = [line(0, "Yearbook", 60, 30), *prose(1, 100), line(9, "Page 1", 280, 805)]
    seen = [SeenText("header", 0.8, 58, 28, 110, 42), SeenText("footer", 0.8, 278, 803, 320, 818)]
    assert [block.label for block in blocks_of(lines, seen)] == ["header", "text", "footer"]


def test_a_large_title_at_the_top_is_no_page_header() -> None:
    lines = [line(0, "Inventory", 60, 40, high=18), *prose(1, 100)]
    blocks = blocks_of(lines, [SeenText("header", 0.8, 58, 38, 110, 60)])
    assert labels(blocks)[0] == ("heading", "Inventory")


def test_a_caption_is_cut_out_of_its_picture() -> None:
    picture = PageObject("picture", 0.9, Box(60, 100, 300, 262))
    blocks = blocks_of([line(0, "Figure 1: The pump.", 60, 250), *prose(1, 300)], (), [picture])
    assert [block.label for block in blocks] == ["picture", "caption", "text"]
    assert blocks[0].box.bottom == 250


def test_prose_is_no_picture_and_is_not_lost() -> None:
    picture = PageObject("picture", 0.9, Box(50, 90, 400, 150))
    assert [block.label for block in blocks_of(prose(0, 100), (), [picture])] == ["text"]


def test_a_bitmap_is_a_picture_unless_it_is_the_page() -> None:
    blocks = blocks_of(prose(0, 100), bitmaps=[Box(60, 300, 200, 400), Box(0, 0, 595, 842)])
    assert [(block.label, block.box.top) for block in blocks] == [("text", 100), ("picture", 300)]


def cells(rows: Sequence[Sequence[str]], top: float = 200) -> list[TextLine]:
    return [
        line(100 + 10 * r + c, text, 60 + 150 * c, top + 20 * r)
        for r, row in enumerate(rows)
        for c, text in enumerate(row)
    ]


def test_rows_of_aligned_cells_are_a_table_that_nothing_saw() -> None:
    table = cells(
        [("Signal", "Meaning", "Answer"), ("Bell", "Fog", "None"), ("Horn", "Port", "Two")]
    )
    blocks = blocks_of([*prose(0, 100), *table])
    assert [(block.label, len(block.lines)) for block in blocks] == [("text", 3), ("table", 9)]


def test_two_columns_of_prose_are_no_table() -> None:
    blocks = blocks_of([*prose(0, 100), *prose(10, 100, left=330)])
    assert [block.label for block in blocks] == ["text", "text"]


def test_a_table_without_cells_side_by_side_is_prose() -> None:
    table = PageObject("table", 0.9, Box(50, 90, 400, 150))
    assert [block.label for block in blocks_of(prose(0, 100), (), [table])] == ["text"]


def test_every_line_is_in_one_block() -> None:
    lines = [*prose(0, 100), *cells([("A", "B"), ("C", "D"), ("E", "F")]), *prose(50, 400)]
    table = PageObject("table", 0.9, Box(55, 195, 300, 255))
    picture = PageObject("picture", 0.5, Box(50, 190, 260, 260))
    found = [one.index for block in blocks_of(lines, (), [table, picture]) for one in block.lines]
    assert sorted(found) == sorted(one.index for one in lines)


def test_a_heading_over_a_block_below_columns_gets_the_width_of_the_block() -> None:
    wide = line(20, "W" * 90, 60, 330)
    blocks = blocks_of(
        [*prose(0, 100), *prose(10, 100, left=330), line(19, "Events", 60, 312, font=BOLD), wide],
        [SeenText("title", 0.9, 58, 310, 95, 324)],
    )
    (heading,) = [block for block in blocks if block.label == "heading"]
    assert heading.box.right == wide.right


# ---- lists --------------------------------------------------------------------------------------


def test_items_have_their_further_lines_and_prose_is_none() -> None:
    lines = [
        line(0, "1. Mend the nets of the", 60, 100),
        line(1, "western boats", 75, 113),
        line(2, "2. Paint the door", 60, 128),
        line(3, "Prose below the list.", 60, 160),
    ]
    items, rest = list_items(lines)
    assert [[one.index for one in item] for item in items] == [[0, 1], [2]]
    assert [one.index for one in rest] == [3]


def test_a_number_alone_begins_no_list() -> None:
    items, rest = list_items([line(0, "3. April was cold.", 60, 100)])
    assert items == []
    assert len(rest) == 1


def test_a_bullet_apart_from_its_text_is_its_marker() -> None:
    items, rest = list_items([line(0, "\u2022", 60, 100), line(1, "Ropes", 75, 100)])
    assert [[one.index for one in item] for item in items] == [[0, 1]]
    assert rest == []


@pytest.mark.parametrize(
    ("read", "meant"),
    [
        ("\u2022Ropes", "\u2022 Ropes"),
        ("\u00b7 Ropes", "\u2022 Ropes"),
        ("2.Nets", "2. Nets"),
        ("Nets", "Nets"),
    ],
)
def test_markers_are_parted_from_their_text(read: str, meant: str) -> None:
    assert spaced(read) == meant
