"""A document cut into its pages, from what docling really writes."""

from __future__ import annotations

from typing import Any

from docling_core.types.doc import (
    BoundingBox,
    DocItemLabel,
    DoclingDocument,
    ProvenanceItem,
    Size,
)

from docling_serve.api.faces.pages import PAGE_BREAK, Page, split_pages


def _document(pages: int) -> DoclingDocument:
    document = DoclingDocument(name="a")
    for number in range(1, pages + 1):
        document.add_page(page_no=number, size=Size(width=595.3, height=841.9))
    return document


def _on(page: int) -> ProvenanceItem:
    return ProvenanceItem(page_no=page, bbox=BoundingBox(l=0, t=0, r=1, b=1), charspan=(0, 1))


def _split(document: DoclingDocument) -> list[Page]:
    markdown = document.export_to_markdown(page_break_placeholder=PAGE_BREAK)
    exported: dict[str, Any] = document.export_to_dict()
    return split_pages(markdown, exported)


def test_each_page_has_its_text_and_its_size() -> None:
    document = _document(2)
    document.add_heading("First", prov=_on(1))
    document.add_text(DocItemLabel.TEXT, "one", prov=_on(1))
    document.add_text(DocItemLabel.TEXT, "two", prov=_on(2))

    assert _split(document) == [
        Page(1, "## First\n\none", 595, 842, 72),
        Page(2, "two", 595, 842, 72),
    ]


def test_pages_without_content_keep_their_place() -> None:
    document = _document(5)
    document.add_text(DocItemLabel.TEXT, "two", prov=_on(2))
    document.add_text(DocItemLabel.TEXT, "four", prov=_on(4))

    assert [page.markdown for page in _split(document)] == ["", "two", "", "four", ""]


def test_a_list_that_begins_a_page_is_on_that_page() -> None:
    """docling writes two marks there."""
    document = _document(3)
    document.add_text(DocItemLabel.TEXT, "one", prov=_on(1))
    group = document.add_list_group()
    document.add_list_item("first", parent=group, prov=_on(2))
    document.add_list_item("second", parent=group, prov=_on(2))
    document.add_text(DocItemLabel.TEXT, "three", prov=_on(3))

    assert [page.markdown for page in _split(document)] == ["one", "- first\n- second", "three"]


def test_a_format_without_pages_is_one_page() -> None:
    document = _document(0)
    document.add_text(DocItemLabel.TEXT, "one")
    document.add_text(DocItemLabel.TEXT, "two")

    assert _split(document) == [Page(1, "one\n\ntwo")]
    assert split_pages("", None) == [Page(1, "")]


def test_no_text_is_lost_where_marks_and_pages_do_not_fit() -> None:
    document = _document(2)
    document.add_text(DocItemLabel.TEXT, "one", prov=_on(1))
    markdown = PAGE_BREAK.join(["one", "two", "three"])

    pages = split_pages(markdown, document.export_to_dict())

    assert [page.markdown for page in pages] == ["one", "two\n\nthree"]
