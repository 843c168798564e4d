"""The layout stage of the embedded profile. Imported by docling only, through the factories.

docling 2.143 runs layout before OCR, so the regions wait until the lines are known. docling-serve
puts the post-processing of :class:`EmbeddedLayout` in place of docling's, whose thresholds are
those of another model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from docling.datamodel.base_models import Cluster, LayoutPrediction, Page
from docling.datamodel.pipeline_options import LayoutPostprocessorOptions
from docling.models.base_layout_model import BaseLayoutModel
from docling.models.stages.layout.layout_postprocessing_model import LayoutPostprocessingModel
from docling_core.types.doc.base import BoundingBox
from docling_core.types.doc.labels import DocItemLabel
from docling_core.types.doc.page import PdfTextCell

from .boxes import Box, Boxed
from .detector import LayoutDetector, Region
from .ink import with_ink
from .lists import spaced
from .options import EmbeddedLayoutOptions
from .page_blocks import FURNITURE_BAND, Block, Label, PageContent, SeenText, page_blocks
from .page_objects import PageObject, TextLine
from .stages import regions_for_ocr
from .text_blocks import group_into_blocks

if TYPE_CHECKING:
    from docling.datamodel.accelerator_options import AcceleratorOptions
    from docling.datamodel.document import ConversionResult
    from docling_core.types.doc.page import TextCell

_LABELS: dict[Label, DocItemLabel] = {
    "text": DocItemLabel.TEXT,
    "heading": DocItemLabel.SECTION_HEADER,
    "list_item": DocItemLabel.LIST_ITEM,
    "caption": DocItemLabel.CAPTION,
    "header": DocItemLabel.PAGE_HEADER,
    "footer": DocItemLabel.PAGE_FOOTER,
    "table": DocItemLabel.TABLE,
    "picture": DocItemLabel.PICTURE,
}
# 144 dpi, as the table stage has it: a page is rendered once. The model sees about half of that.
_IMAGE_SCALE = 2.0


class DetectedLayout(LayoutPrediction):
    """What was seen, beside the clusters that tell OCR where to look."""

    regions: tuple[Region, ...] = ()


class EmbeddedLayout(BaseLayoutModel):
    """Layout kind ``embedded``: a small detector on ONNX Runtime; its weights are part of us."""

    requires_layout_postprocessing = True

    def __init__(
        self,
        artifacts_path: Path | None,
        accelerator_options: AcceleratorOptions,
        options: EmbeddedLayoutOptions,
        enable_remote_services: bool = False,
    ) -> None:
        del artifacts_path, enable_remote_services
        self.options = options
        # Not at the top: it names torch, and docling looks at the kinds where there is none. The
        # device of RapidOCR, which runs on ONNX Runtime too: our workers know it without torch.
        from docling.models.stages.ocr import rapid_ocr_model  # noqa: PLC0415

        rapidocr: Any = rapid_ocr_model
        device = rapidocr.decide_device(str(accelerator_options.device))
        self._detector = LayoutDetector(
            accelerator_options.num_threads, cuda=device.startswith("cuda")
        )
        #: Read by docling-serve: takes the place of docling's own post-processing.
        self.layout_postprocessing = FittedLayout(options=LayoutPostprocessorOptions())

    @classmethod
    def get_options_type(cls) -> type[EmbeddedLayoutOptions]:
        return EmbeddedLayoutOptions

    def predict_layout(
        self, conv_res: ConversionResult, pages: Sequence[Page]
    ) -> list[LayoutPrediction]:
        del conv_res
        return [self._predict(page) for page in pages]

    def _predict(self, page: Page) -> DetectedLayout:
        for_ocr = regions_for_ocr(page)
        if page.size is None or not (for_ocr or page.cells):
            return DetectedLayout(clusters=for_ocr)
        if not for_ocr and _is_plain(page):
            return DetectedLayout()
        image = page.get_image(scale=_IMAGE_SCALE)
        if image is None:
            return DetectedLayout(clusters=for_ocr)
        regions = self._detector.regions(image, page.size.width, page.size.height)
        return DetectedLayout(clusters=for_ocr, regions=tuple(regions))


class FittedLayout(LayoutPostprocessingModel):
    """Makes blocks of the lines of a page, and labels them by what was seen."""

    def postprocess_layout(
        self, conv_res: ConversionResult, pages: Sequence[Page]
    ) -> list[LayoutPrediction]:
        return [self._finished(conv_res, page) for page in pages]

    def _finished(self, conv_res: ConversionResult, page: Page) -> LayoutPrediction:
        layout = page.predictions.layout or LayoutPrediction()
        if page._backend is None or not page._backend.is_valid() or page.size is None:
            return layout
        regions = layout.regions if isinstance(layout, DetectedLayout) else ()
        cells = {cell.index: cell for cell in page.cells}
        clusters = _clusters(page_blocks(_content(page, regions)), cells)
        self._update_layout_score(conv_res, page, clusters)
        return LayoutPrediction(clusters=clusters)


def _content(page: Page, regions: Sequence[Region]) -> PageContent:
    assert page.size is not None
    assert page._backend is not None
    return PageContent(
        page=Box(0.0, 0.0, page.size.width, page.size.height),
        lines=_lines(page),
        objects=[
            PageObject("table" if region.kind == "table" else "picture", region.score, _box(region))
            for region in regions
            if region.kind == "table" or (region.kind == "figure" and _is_drawn(page, region))
        ],
        texts=[
            SeenText(
                region.kind, region.score, region.left, region.top, region.right, region.bottom
            )
            for region in regions
            if region.kind not in ("table", "figure")
        ],
        bitmaps=[Box(*rect.as_tuple()) for rect in page._backend.get_bitmap_rects()],
    )


def _is_plain(page: Page) -> bool:
    """Whether a page has text and nothing else, but for rules or a logo at its top and bottom.

    Its fonts and gaps tell what the model would, which costs three times what the rest does.
    """
    assert page.size is not None
    assert page._backend is not None
    edge = FURNITURE_BAND * page.size.height
    body = BoundingBox(l=0, t=edge, r=page.size.width, b=page.size.height - edge)
    return page._backend.has_content_in(bbox=body, chars=False) is False


def _is_drawn(page: Page, region: Region) -> bool:
    """Whether there is anything but text where a picture was seen; a backend may not know."""
    assert page._backend is not None
    box = BoundingBox(l=region.left, t=region.top, r=region.right, b=region.bottom)
    return page._backend.has_content_in(bbox=box, chars=False) is not False


def _lines(page: Page) -> list[TextLine]:
    """All lines; those of OCR with what the image tells of them."""
    lines = {cell.index: _line(cell) for cell in page.cells}
    read = [lines[cell.index] for cell in page.cells if cell.from_ocr and cell.text.strip()]
    image = page.get_image(scale=_IMAGE_SCALE) if read else None
    if image is not None:
        inked = with_ink(read, np.asarray(image.convert("L")), _IMAGE_SCALE)
        lines.update((line.index, line) for line in inked)
    return list(lines.values())


def _line(cell: TextCell) -> TextLine:
    box = cell.rect.to_bounding_box()
    font = cell.font_name or cell.font_key if isinstance(cell, PdfTextCell) else ""
    return TextLine(cell.index, box.l, box.t, box.r, box.b, cell.text, font)


def _box(boxed: Boxed) -> Box:
    return Box(boxed.left, boxed.top, boxed.right, boxed.bottom)


def _clusters(blocks: Sequence[Block], cells: dict[int, TextCell]) -> list[Cluster]:
    clusters: list[Cluster] = []
    number = len(blocks)
    for place, block in enumerate(blocks, start=1):
        children = []
        if block.label in ("table", "picture"):
            for lines in group_into_blocks(block.lines):
                number += 1
                children.append(_cluster(number, "text", block.score, lines, cells))
        cluster = _cluster(place, block.label, block.score, block.lines, cells)
        box = block.box
        cluster.bbox = BoundingBox(l=box.left, t=box.top, r=box.right, b=box.bottom)
        cluster.children = children
        clusters.append(cluster)
    return clusters


def _cluster(
    number: int,
    label: Label,
    score: float,
    lines: Sequence[TextLine],
    cells: dict[int, TextCell],
) -> Cluster:
    own = [cells[line.index] for line in lines]
    if label == "list_item" and own:
        own[0] = own[0].model_copy(update={"text": spaced(lines[0].text)})
    boxes = [cell.rect.to_bounding_box() for cell in own]
    return Cluster(
        id=number,
        label=_LABELS[label],
        bbox=BoundingBox.enclosing_bbox(boxes) if boxes else BoundingBox(l=0, t=0, r=0, b=0),
        confidence=score,
        cells=own,
    )
