"""A page keeps everything on its way from the slice to the merge."""

from __future__ import annotations

import json
from typing import Any

import pytest
from docling.datamodel.base_models import (
    AssembledUnit,
    Cluster,
    ContainerElement,
    FigureElement,
    LayoutPrediction,
    Page,
    PagePredictions,
    Table,
    TextElement,
)
from docling_core.types.doc.base import BoundingBox, Size
from docling_core.types.doc.labels import DocItemLabel

from docling_serve.internals.docling_pages import SlicedDocuments, dump_page, load_page

BOX = BoundingBox(l=1 / 3, t=10.5, r=100.0, b=20.25)


def over_the_wire(page: Page) -> Page:
    data: dict[str, Any] = json.loads(json.dumps(dump_page(page)))
    return load_page(data)


def cluster(number: int, label: DocItemLabel = DocItemLabel.TEXT) -> Cluster:
    return Cluster(id=number, label=label, bbox=BOX, confidence=0.123456789012345)


def page_with(*elements: Any) -> Page:
    assembled = AssembledUnit.model_construct(
        elements=list(elements), headers=list(elements[:1]), body=list(elements[1:])
    )
    page = Page(page_no=7, size=Size(width=298.0, height=420.0), assembled=assembled)
    page.predictions = PagePredictions(layout=LayoutPrediction(clusters=[cluster(1)]))
    return page


def common(number: int, label: DocItemLabel) -> dict[str, Any]:
    return {"label": label, "id": number, "page_no": 7, "cluster": cluster(number, label)}


ELEMENTS = [
    TextElement(**common(1, DocItemLabel.PAGE_HEADER), text="ünï"),
    TextElement(**common(2, DocItemLabel.TEXT), text="x", hyperlink="https://example.com/a"),
    Table(**common(3, DocItemLabel.TABLE), otsl_seq=["fcel"], num_rows=1, table_cells=[]),
    FigureElement(**common(4, DocItemLabel.PICTURE)),
    ContainerElement(**common(5, DocItemLabel.FORM)),
]


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda element: type(element).__name__)
def test_an_element_stays_what_it_is(element: Any) -> None:
    (back,) = over_the_wire(page_with(element)).assembled.elements  # type: ignore[union-attr]

    assert type(back) is type(element)
    assert back == element


def test_a_page_stays_as_it_is() -> None:
    page = page_with(*ELEMENTS)
    page._shape_lines = [BOX]
    back = over_the_wire(page)

    assert back == page
    assert back._shape_lines == [BOX]
    assert back._shape_bounding_boxes is None


def test_headers_and_body_are_the_elements_themselves() -> None:
    """docling changes elements in place after it sorted them."""
    assembled = over_the_wire(page_with(*ELEMENTS)).assembled
    assert assembled is not None

    assert assembled.headers[0] is assembled.elements[0]
    assert all(a is b for a, b in zip(assembled.body, assembled.elements[1:], strict=True))


def test_a_page_of_nothing_stays_one() -> None:
    page = Page(page_no=1)

    assert over_the_wire(page).assembled == AssembledUnit()


def test_slices_are_found_by_the_document_they_are_of() -> None:
    slices = [json.dumps({"document_hash": name, "n": n}).encode() for n, name in enumerate("aba")]
    found = SlicedDocuments(slices)

    assert [part["n"] for part in found.find("a")] == [0, 2]
    assert found.find("c") == []
