"""What a document should become: a DoclingDocument, drawn by us or given by the user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docling_core.types.doc.document import DoclingDocument
from docling_core.types.doc.items.table.table_data import TableCell, TableData
from docling_core.types.doc.items.text import TextItem
from docling_core.types.doc.labels import DocItemLabel, GroupLabel

from .content import Block, DrawnDocument, Figure, Grid, Heading, Items, Paragraph
from .drawing import pdf_of
from .drawn_set import drawn_set
from .scans import scan_of

_CONVERTED = (".html", ".md", ".docx")


@dataclass(frozen=True)
class Case:
    """A PDF and its reference. ``variant`` says how the PDF was made."""

    name: str
    variant: str
    pdf: bytes
    reference: DoclingDocument
    has_columns: bool = False


def drawn_cases() -> Iterator[Case]:
    """Each drawn document as a PDF with a text layer, as a clean scan and as a noisy one."""
    for number, drawn in enumerate(drawn_set()):
        pdf, reference = pdf_of(drawn), reference_of(drawn)
        columns = any(section.columns > 1 for section in drawn.sections)
        yield Case(drawn.name, "text", pdf, reference, columns)
        clean = scan_of(pdf, noisy=False)
        yield Case(drawn.name, "scan", clean, reference, columns)
        noisy = scan_of(pdf, noisy=True, seed=number)
        yield Case(drawn.name, "noisy scan", noisy, reference, columns)


def cases_in(folder: Path) -> Iterator[Case]:
    """Each PDF of ``folder`` that has a reference beside it.

    The reference has the PDF's name and ends in .json (a DoclingDocument), or in .html, .md or
    .docx, which docling reads without any model.

    Raises:
        FileNotFoundError: a PDF has none, or there is no PDF.
    """
    pdfs = sorted(folder.glob("*.pdf"))
    if not pdfs:
        raise FileNotFoundError(f"no PDF in {folder}")
    for pdf in pdfs:
        yield Case(pdf.stem, "given", pdf.read_bytes(), _given_reference(pdf))


def _given_reference(pdf: Path) -> DoclingDocument:
    as_json = pdf.with_suffix(".json")
    if as_json.exists():
        return DoclingDocument.load_from_json(as_json)
    for ending in _CONVERTED:
        file = pdf.with_suffix(ending)
        if file.exists():
            from docling.document_converter import DocumentConverter  # noqa: PLC0415 - seconds

            return DocumentConverter().convert(file).document
    endings = ", ".join((".json", *_CONVERTED))
    raise FileNotFoundError(f"{pdf} has no reference beside it ({endings})")


def reference_of(drawn: DrawnDocument) -> DoclingDocument:
    """The drawn document as docling would give it, without pages and places."""
    document = DoclingDocument(name=drawn.name)
    for block in drawn.blocks():
        _add(document, block)
    return document


def _add(document: DoclingDocument, block: Block) -> None:
    if isinstance(block, Heading):
        document.add_heading(block.text, level=block.level)
    elif isinstance(block, Paragraph):
        document.add_text(label=DocItemLabel.TEXT, text=block.text)
    elif isinstance(block, Items):
        group = document.add_group(label=GroupLabel.LIST)
        for number, text in enumerate(block.texts, start=1):
            marker = f"{number}." if block.numbered else "-"
            document.add_list_item(text, enumerated=block.numbered, marker=marker, parent=group)
    elif isinstance(block, Grid):
        document.add_table(data=_table_data(block), caption=_caption(document, block))
    else:
        document.add_picture(caption=_caption(document, block))


def _caption(document: DoclingDocument, block: Grid | Figure) -> TextItem | None:
    if not block.caption:
        return None
    caption: TextItem = document.add_text(label=DocItemLabel.CAPTION, text=block.caption)
    return caption


def _table_data(grid: Grid) -> TableData:
    cells = [
        TableCell(
            text=placed.cell.text,
            row_span=placed.cell.rowspan,
            col_span=placed.cell.colspan,
            start_row_offset_idx=placed.row,
            end_row_offset_idx=placed.row + placed.cell.rowspan,
            start_col_offset_idx=placed.column,
            end_col_offset_idx=placed.column + placed.cell.colspan,
            column_header=placed.row < grid.header_rows,
        )
        for placed in grid.placed()
    ]
    return TableData(num_rows=len(grid.rows), num_cols=grid.columns, table_cells=cells)
