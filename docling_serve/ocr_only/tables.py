"""The table stage of the embedded profile. Imported by docling only, through the factories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from docling.datamodel.base_models import Cluster, Page, Table, TableStructurePrediction
from docling.datamodel.pipeline_options import BaseTableStructureOptions
from docling.models.base_layout_model import TABLE_LABELS
from docling.models.base_table_model import BaseTableStructureModel
from docling_core.types.doc.base import BoundingBox
from docling_core.types.doc.items.table.table_data import TableCell as DoclingTableCell
from docling_core.types.doc.page import TextCellUnit

from .boxes import Box
from .options import EmbeddedTableStructureOptions
from .ruled_grid import Rules
from .rules import rules_in
from .table_grid import TableCell, Word, table_grid

if TYPE_CHECKING:
    from docling.datamodel.accelerator_options import AcceleratorOptions
    from docling.datamodel.document import ConversionResult
    from docling_core.types.doc.page import TextCell

_IMAGE_SCALE = 2.0  # 144 dpi: a hair line is a pixel wide
_MARGIN = 3.0  # points around a table, where its outer rules are


class WeightlessTables(BaseTableStructureModel):
    """A table kind that needs nothing but its options."""

    #: Read by docling-serve: a process that holds only such stages holds no model.
    weightless = True

    def __init__(
        self,
        enabled: bool,
        artifacts_path: Path | None,
        options: BaseTableStructureOptions,
        accelerator_options: AcceleratorOptions,
        enable_remote_services: bool = False,
    ) -> None:
        del artifacts_path, accelerator_options, enable_remote_services
        self.enabled = enabled
        self.options = options


class EmbeddedTableStructure(WeightlessTables):
    """Table kind ``embedded``: the grid is found in words and rules, without weights."""

    @classmethod
    def get_options_type(cls) -> type[EmbeddedTableStructureOptions]:
        return EmbeddedTableStructureOptions

    def predict_tables(
        self, conv_res: ConversionResult, pages: Sequence[Page]
    ) -> list[TableStructurePrediction]:
        del conv_res
        return [TableStructurePrediction(table_map=dict(_tables(page))) for page in pages]


def _tables(page: Page) -> Iterator[tuple[int, Table]]:
    layout = page.predictions.layout
    if layout is None or page._backend is None or not page._backend.is_valid():
        return
    for cluster in layout.clusters:
        if cluster.label in TABLE_LABELS:
            yield cluster.id, _table(page, cluster)


def _table(page: Page, cluster: Cluster) -> Table:
    grid = table_grid(_words(page, cluster), _rules(page, cluster.bbox), _box(cluster.bbox))
    return Table(
        otsl_seq=[],
        table_cells=[_docling_cell(cell) for cell in grid.cells],
        num_rows=grid.rows,
        num_cols=grid.columns,
        id=cluster.id,
        page_no=page.page_no,
        cluster=cluster,
        label=cluster.label,
    )


def _docling_cell(cell: TableCell) -> DoclingTableCell:
    box = cell.box
    return DoclingTableCell(
        text=cell.text,
        bbox=BoundingBox(l=box.left, t=box.top, r=box.right, b=box.bottom),
        row_span=cell.row_span,
        col_span=cell.column_span,
        start_row_offset_idx=cell.row,
        end_row_offset_idx=cell.row + cell.row_span,
        start_col_offset_idx=cell.column,
        end_col_offset_idx=cell.column + cell.column_span,
        column_header=cell.is_header,
    )


def _words(page: Page, cluster: Cluster) -> list[Word]:
    """The words of a text layer; of OCR, its lines, cut between words as if all were as wide."""
    assert page._backend is not None
    if all(not cell.from_ocr for cell in cluster.cells):
        segmented = page._backend.get_segmented_page()
        if segmented is not None:
            cells = segmented.get_cells_in_bbox(TextCellUnit.WORD, cluster.bbox)
            words = [_word(cell) for cell in cells if cell.text.strip()]
            if words:
                return words
    lines = [_word(cell) for cell in cluster.cells if cell.text.strip()]
    return [word for line in lines for word in _split(line)]


def _word(cell: TextCell) -> Word:
    box = cell.rect.to_bounding_box()
    return Word(box.l, box.t, box.r, box.b, cell.text.strip())


def _split(line: Word) -> Iterator[Word]:
    width = line.width / max(len(line.text), 1)
    at = 0
    for word in line.text.split(" "):
        if word:
            left = line.left + at * width
            yield Word(left, line.top, left + len(word) * width, line.bottom, word)
        at += len(word) + 1


def _rules(page: Page, bbox: BoundingBox) -> Rules:
    """Those of the page image: a scan has no others, and a PDF draws them in many ways."""
    assert page.size is not None
    around = BoundingBox(
        l=max(bbox.l - _MARGIN, 0.0),
        t=max(bbox.t - _MARGIN, 0.0),
        r=min(bbox.r + _MARGIN, page.size.width),
        b=min(bbox.b + _MARGIN, page.size.height),
    )
    image = page.get_image(scale=_IMAGE_SCALE, cropbox=around)
    if image is None:
        return Rules()
    return rules_in(np.asarray(image.convert("L")), _IMAGE_SCALE, around.l, around.t)


def _box(bbox: BoundingBox) -> Box:
    return Box(bbox.l, bbox.t, bbox.r, bbox.b)
