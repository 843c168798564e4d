"""The two pipeline stages of the plugin. Imported by docling only, through the factories.

docling 2.143 runs preprocessing, layout, OCR, layout post-processing, tables, assembly, reading
order. So the layout can only say where OCR should look, and the lines are known when the table
stage, the last one before assembly, sees the page: that is where they become blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from docling.datamodel.base_models import (
    Cluster,
    LayoutPrediction,
    Page,
    TableStructurePrediction,
)
from docling.models.base_layout_model import BaseLayoutModel
from docling_core.types.doc.base import BoundingBox
from docling_core.types.doc.labels import DocItemLabel

from .options import FullPageLayoutOptions, NoTableStructureOptions
from .tables import WeightlessTables
from .text_blocks import Line, group_into_blocks

if TYPE_CHECKING:
    from docling.datamodel.accelerator_options import AcceleratorOptions
    from docling.datamodel.document import ConversionResult
    from docling_core.types.doc.page import TextCell

# Below docling's threshold for text (0.5): post-processing drops such a cluster and makes one
# cluster of every line that OCR or the text layer gave.
_ONLY_FOR_OCR = 0.0
_SMALLEST_READABLE_PT = 12.0


class FullPageLayout(BaseLayoutModel):
    """Layout kind ``full_page``: no weights; tells OCR where text may be.

    A page without a text layer is read as a whole, unless nothing at all is drawn on it. On a
    page with one, only the bitmaps are read, and the text layer stays. (With OCR in full-page
    mode, the request's ``force_ocr``, docling reads every page as a whole.)
    """

    requires_layout_postprocessing = True
    #: Read by docling-serve: a process that holds only such stages holds no model.
    weightless = True

    def __init__(
        self,
        artifacts_path: Path | None,
        accelerator_options: AcceleratorOptions,
        options: FullPageLayoutOptions,
        enable_remote_services: bool = False,
    ) -> None:
        del artifacts_path, accelerator_options, enable_remote_services
        self.options = options

    @classmethod
    def get_options_type(cls) -> type[FullPageLayoutOptions]:
        return FullPageLayoutOptions

    def predict_layout(
        self, conv_res: ConversionResult, pages: Sequence[Page]
    ) -> list[LayoutPrediction]:
        del conv_res
        return [LayoutPrediction(clusters=regions_for_ocr(page)) for page in pages]


class NoTableStructure(WeightlessTables):
    """Table kind ``none``: predicts no tables, and joins loose lines into blocks.

    Only pages on which no layout region was found are touched: there every cluster is one line.
    """

    @classmethod
    def get_options_type(cls) -> type[NoTableStructureOptions]:
        return NoTableStructureOptions

    def predict_tables(
        self, conv_res: ConversionResult, pages: Sequence[Page]
    ) -> list[TableStructurePrediction]:
        del conv_res
        return [TableStructurePrediction() for _ in pages]

    def __call__(self, conv_res: ConversionResult, page_batch: Iterable[Page]) -> Iterable[Page]:
        # Joins lines also where the request switched table structure off.
        for page in super().__call__(conv_res, page_batch):
            layout = page.predictions.layout
            if layout is not None and _is_loose_lines(layout.clusters):
                layout.clusters = _blocks(layout.clusters)
            yield page


def regions_for_ocr(page: Page) -> list[Cluster]:
    backend = page._backend
    if backend is None or not backend.is_valid() or page.size is None:
        return []
    whole = BoundingBox(l=0, t=0, r=page.size.width, b=page.size.height)
    boxes = [whole]
    if page.cells:
        boxes = [box for box in backend.get_bitmap_rects() if _is_readable(box)]
    elif backend.has_content_in(bbox=whole, chars=True, shapes=True, bitmaps=True) is False:
        boxes = []
    return [
        Cluster(id=number, label=DocItemLabel.TEXT, bbox=box, confidence=_ONLY_FOR_OCR)
        for number, box in enumerate(boxes, start=1)
    ]


def _is_readable(box: BoundingBox) -> bool:
    """Whether a line of text fits in; icons and rules are not worth an OCR pass."""
    return bool(min(box.width, box.height) >= _SMALLEST_READABLE_PT)


def _is_loose_lines(clusters: Sequence[Cluster]) -> bool:
    return all(
        cluster.label == DocItemLabel.TEXT and len(cluster.cells) == 1 and not cluster.children
        for cluster in clusters
    )


def _blocks(clusters: Sequence[Cluster]) -> list[Cluster]:
    cells = [cell for cluster in clusters for cell in cluster.cells]
    lines = [
        Line(index, box.l, box.t, box.r, box.b)
        for index, box in enumerate(cell.rect.to_bounding_box() for cell in cells)
    ]
    return [
        _cluster(number, [cells[line.index] for line in block])
        for number, block in enumerate(group_into_blocks(lines), start=1)
    ]


def _cluster(number: int, cells: list[TextCell]) -> Cluster:
    return Cluster(
        id=number,
        label=DocItemLabel.TEXT,
        bbox=BoundingBox.enclosing_bbox([cell.rect.to_bounding_box() for cell in cells]),
        confidence=sum(cell.confidence for cell in cells) / len(cells),
        cells=cells,
    )
