"""The two stages on pages without a document behind them. These need docling's data models."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

WIDTH, HEIGHT = 595.0, 842.0


def box(left: float, top: float, right: float, bottom: float) -> Any:
    from docling_core.types.doc.base import BoundingBox

    return BoundingBox(l=left, t=top, r=right, b=bottom)


class DrawnPage:
    """Answers what the layout asks a page backend: what is drawn, and where bitmaps are."""

    def __init__(self, *, bitmaps: Iterable[Any] = (), anything: bool | None = True) -> None:
        self._bitmaps = list(bitmaps)
        self._anything = anything

    def is_valid(self) -> bool:
        return True

    def get_bitmap_rects(self) -> list[Any]:
        return self._bitmaps

    def has_content_in(self, **_: Any) -> bool | None:
        return self._anything


def page_of(backend: DrawnPage, texts: Mapping[str, tuple[float, float, float, float]]) -> Any:
    from docling.datamodel.base_models import Page
    from docling.models.base_ocr_model import _empty_segmented_page
    from docling_core.types.doc.base import Size
    from docling_core.types.doc.page import BoundingRectangle, TextCell

    page = Page(page_no=1, size=Size(width=WIDTH, height=HEIGHT))
    page._backend = backend  # type: ignore[assignment]
    page.parsed_page = _empty_segmented_page(page)
    page.parsed_page.textline_cells = [
        TextCell(
            index=index,
            text=text,
            orig=text,
            from_ocr=True,
            confidence=0.9,
            rect=BoundingRectangle.from_bounding_box(box(*place)),
        )
        for index, (text, place) in enumerate(texts.items())
    ]
    return page


def regions(page: Any) -> list[Any]:
    from docling_serve.ocr_only.options import FullPageLayoutOptions
    from docling_serve.ocr_only.stages import FullPageLayout

    layout = FullPageLayout(None, None, FullPageLayoutOptions())  # type: ignore[arg-type]
    (prediction,) = layout.predict_layout(None, [page])  # type: ignore[arg-type]
    return prediction.clusters


def assembled(page: Any, *, enabled: bool = True) -> list[str]:
    """Layout, docling's post-processing of it, and our table stage; the text of each block."""
    from docling.datamodel.base_models import LayoutPrediction
    from docling.datamodel.pipeline_options import LayoutPostprocessorOptions
    from docling.utils.layout_postprocessor import LayoutPostprocessor

    clusters = LayoutPostprocessor(page, regions(page), LayoutPostprocessorOptions()).postprocess()
    page.predictions.layout = LayoutPrediction(clusters=clusters)
    return texts_after_tables(page, enabled=enabled)


def texts_after_tables(page: Any, *, enabled: bool = True) -> list[str]:
    from docling_serve.ocr_only.options import NoTableStructureOptions
    from docling_serve.ocr_only.stages import NoTableStructure

    tables = NoTableStructure(enabled, None, NoTableStructureOptions(), None)  # type: ignore[arg-type]
    (page,) = tables(None, [page])  # type: ignore[arg-type]
    return [" ".join(cell.text for cell in c.cells) for c in page.predictions.layout.clusters]


LINES = {
    "second paragraph": (50, 140, 400, 150),
    "first line": (50, 100, 540, 110),
    "and its end": (50, 114, 300, 124),
}


def test_a_page_with_nothing_drawn_is_not_read() -> None:
    assert regions(page_of(DrawnPage(anything=False), {})) == []


@pytest.mark.parametrize("anything", [True, None])  # None: the backend cannot tell
def test_a_page_without_text_layer_is_read_as_a_whole(anything: bool | None) -> None:
    (region,) = regions(page_of(DrawnPage(anything=anything), {}))
    assert region.bbox.as_tuple() == (0, 0, WIDTH, HEIGHT)


def test_only_bitmaps_are_read_beside_a_text_layer() -> None:
    picture, icon = box(50, 300, 400, 500), box(10, 10, 20, 20)
    found = regions(page_of(DrawnPage(bitmaps=[picture, icon]), LINES))
    assert [region.bbox for region in found] == [picture]


def test_lines_become_blocks_in_reading_order() -> None:
    page = page_of(DrawnPage(), LINES)
    assert assembled(page) == ["first line and its end", "second paragraph"]
    first, _ = page.predictions.layout.clusters
    assert first.bbox.as_tuple() == (50, 100, 540, 124)
    assert first.confidence == pytest.approx(0.9)


def test_lines_are_joined_with_table_structure_off() -> None:
    assert assembled(page_of(DrawnPage(), LINES), enabled=False) == [
        "first line and its end",
        "second paragraph",
    ]


def test_a_blank_page_passes_both_stages() -> None:
    assert assembled(page_of(DrawnPage(anything=False), {})) == []


def test_regions_of_another_layout_are_left_alone() -> None:
    from docling.datamodel.base_models import Cluster, LayoutPrediction
    from docling_core.types.doc.labels import DocItemLabel

    page = page_of(DrawnPage(), LINES)
    second, first, end = page.cells
    page.predictions.layout = LayoutPrediction(
        clusters=[
            Cluster(id=1, label=DocItemLabel.SECTION_HEADER, bbox=box(0, 0, 9, 9), cells=[second]),
            Cluster(id=2, label=DocItemLabel.TEXT, bbox=box(0, 9, 9, 18), cells=[end, first]),
        ]
    )
    assert texts_after_tables(page) == ["second paragraph", "and its end first line"]


def test_the_table_kind_takes_what_a_request_asks_of_other_engines() -> None:
    from docling_serve.ocr_only.options import NoTableStructureOptions

    assert NoTableStructureOptions(mode="fast").model_dump() == {}


class NoDetector:
    """Stands for the model where it must not be asked."""

    def regions(self, *_: Any) -> list[Any]:
        raise AssertionError("the model was asked")


@pytest.mark.parametrize("drawn", [False, None, True])
def test_the_model_is_asked_unless_a_page_is_known_to_be_text_alone(drawn: bool | None) -> None:
    from PIL import Image

    from docling_serve.ocr_only.layout import EmbeddedLayout

    page = page_of(DrawnPage(anything=drawn), {"Harbour": (60, 300, 120, 312)})
    page._image_cache = {2.0: Image.new("RGB", (round(2 * WIDTH), round(2 * HEIGHT)), "white")}
    layout = EmbeddedLayout.__new__(EmbeddedLayout)
    vars(layout)["_detector"] = NoDetector()

    if drawn is False:
        assert layout._predict(page).regions == ()
    else:
        with pytest.raises(AssertionError, match="the model was asked"):
            layout._predict(page)
