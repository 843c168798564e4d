"""The pages of a converted document, from its Markdown and its JSON form.

docling writes a mark between two pages into Markdown, but skips pages without content, and may
write two marks where a list starts a page. The pages with content are read from the JSON form, and
matched with the text between the marks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

PAGE_BREAK = "<!-- docling-serve: page break -->"
"""The mark to ask for."""

_POINTS_PER_INCH = 72


@dataclass(frozen=True)
class Page:
    """One page; ``number`` counts from 1. The size is in pixels at ``dpi``, None where the format
    has no pages."""

    number: int
    markdown: str
    width: int | None = None
    height: int | None = None
    dpi: int = _POINTS_PER_INCH


def split_pages(markdown: str, document: dict[str, Any] | None) -> list[Page]:
    """The pages of a document, including those without content; one page for a format without
    pages. ``document`` is its JSON form."""
    document = document or {}
    texts = [text for part in markdown.split(PAGE_BREAK) if (text := part.strip())]
    sizes = {int(number): page["size"] for number, page in document.get("pages", {}).items()}
    if not sizes:
        return [Page(1, "\n\n".join(texts))]
    numbers = sorted(sizes)
    filled = list(_pages_with_content(document))
    if len(filled) != len(texts):  # text without a page, or the reverse
        filled = numbers
    by_page: dict[int, list[str]] = {number: [] for number in numbers}
    for index, text in enumerate(texts):
        number = filled[min(index, len(filled) - 1)]
        by_page.setdefault(number, []).append(text)
    return [
        Page(number, "\n\n".join(by_page[number]), *_size(sizes.get(number)))
        for number in sorted(by_page)
    ]


def _size(size: dict[str, float] | None) -> tuple[int | None, int | None]:
    return (None, None) if size is None else (round(size["width"]), round(size["height"]))


def _pages_with_content(document: dict[str, Any]) -> Iterator[int]:
    """The pages where docling continues on a later page, in reading order."""
    last = 0
    for item in _in_order(document, document["body"]):
        if item.get("content_layer", "body") != "body" or not item.get("prov"):
            continue
        page: int = item["prov"][0]["page_no"]
        if page > last and _writes_something(item):
            last = page
            yield page


def _writes_something(item: dict[str, Any]) -> bool:
    """Whether the item appears in Markdown: an empty text does not; tables and pictures do."""
    return bool(item.get("text", "shows").strip())


def _in_order(document: dict[str, Any], node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All items below ``node``, parents first; iterative, as lists may be nested deeply."""
    waiting, seen = [node], set[str]()
    while waiting:
        current = waiting.pop()
        yield current
        references = [child["$ref"] for child in current.get("children", ())]
        new = [reference for reference in references if reference not in seen]
        seen.update(new)
        waiting += [_resolved(document, reference) for reference in reversed(new)]


def _resolved(document: dict[str, Any], reference: str) -> dict[str, Any]:
    """The item that a reference such as ``#/texts/3`` names."""
    _, kind, index = reference.split("/")
    item: dict[str, Any] = document[kind][int(index)]
    return item
