"""Convert the pages of one PDF in separate slices, and merge them again.

A slice takes its pages to the point where docling starts to look at the document as a whole
(reading order, headings, enrichment) and leaves them as plain data. The merge takes the pages of
all slices and continues from there, so content that spans a page border comes out as if nothing had
been cut.

Read from docling-slim 2.143 (``docling.pipeline.standard_pdf_pipeline``).
Guarded by tests/unit/internals/test_docling_pages.py, which compares a document converted in slices
with the same one converted whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, get_args

from docling.backend.pdf_backend import PdfDocumentBackend, iter_pdf_page_backends
from docling.datamodel.base_models import (
    AssembledUnit,
    ConversionStatus,
    ErrorItem,
    Page,
    PageConfidenceScores,
    PageElement,
)
from docling.pipeline.standard_pdf_pipeline import StandardPdfPipeline
from docling_core.types.doc.base import BoundingBox, Size
from pydantic import TypeAdapter

if TYPE_CHECKING:
    from docling.datamodel.document import ConversionResult
    from docling.pipeline.base_pipeline import BasePipeline

_ELEMENTS = {cls.__name__: cls for cls in get_args(PageElement)}
_BOXES: TypeAdapter[list[BoundingBox] | None] = TypeAdapter(list[BoundingBox] | None)


class _SlicePipeline(StandardPdfPipeline):
    """Stops before docling looks at the document as a whole."""

    def _assemble_document(self, conv_res: ConversionResult) -> ConversionResult:
        return conv_res

    def _enrich_document(self, conv_res: ConversionResult) -> ConversionResult:
        return conv_res


class _MergePipeline(StandardPdfPipeline):
    """Starts there, with pages that were converted elsewhere."""

    slices: SlicedDocuments

    def _build_document(self, conv_res: ConversionResult) -> ConversionResult:
        found = self.slices.find(conv_res.input.document_hash)
        if not found:
            return super()._build_document(conv_res)
        backend = conv_res.input._backend
        assert isinstance(backend, PdfDocumentBackend)
        headings = self.pipeline_options.heading_hierarchy_options
        if headings.enabled and headings.use_bookmarks:
            conv_res._pdf_outline = backend.get_document_outline()
        for part in found:
            _take_pages(part, conv_res)
        conv_res.pages.sort(key=lambda page: page.page_no)
        if self.keep_backend or self.keep_images:
            self._reopen(conv_res.pages, backend)
        if not conv_res.pages:
            conv_res.status = ConversionStatus.FAILURE
        elif conv_res.errors:
            conv_res.status = ConversionStatus.PARTIAL_SUCCESS
        else:
            conv_res.status = ConversionStatus.SUCCESS
        return conv_res

    def _reopen(self, pages: Sequence[Page], backend: PdfDocumentBackend) -> None:
        """Allow pictures to be cut out of ``pages`` again."""
        by_number = {page.page_no: page for page in pages}
        for page_backend in iter_pdf_page_backends(backend, sorted(by_number)):
            page = by_number[page_backend.page_no]
            page._backend = page_backend
            page._default_image_scale = self.pipeline_options.images_scale


class SlicedDocuments:
    """The slices of a job's documents, as :func:`dump_slice` wrote them."""

    def __init__(self, slices: Iterable[bytes]) -> None:
        self._by_document: dict[str, list[dict[str, Any]]] = {}
        for text in slices:
            part = json.loads(text)
            self._by_document.setdefault(part["document_hash"], []).append(part)

    def find(self, document_hash: str) -> list[dict[str, Any]]:
        """All slices of the document with this hash; none if it was not cut."""
        return self._by_document.get(document_hash, [])

    def merging(self, pipeline: BasePipeline) -> BasePipeline:
        """``pipeline``, made to take the pages of sliced documents from here."""
        merging = _as(_MergePipeline, pipeline)
        if isinstance(merging, _MergePipeline):
            merging.slices = self
        return merging


def slicing(pipeline: BasePipeline) -> BasePipeline:
    """``pipeline``, made to stop after the pages. One that is not docling's for PDFs is
    unchanged."""
    return _as(_SlicePipeline, pipeline)


def dump_slice(result: ConversionResult) -> bytes:
    """The pages of ``result``, made by a :func:`slicing` pipeline, as JSON."""
    scores = result.confidence.pages
    part = {
        "document_hash": result.input.document_hash,
        "errors": [error.model_dump(mode="json") for error in result.errors],
        "pages": [dump_page(page) for page in result.pages],
        "sizes": {str(no): size.model_dump() for no, size in result._page_sizes_by_no.items()},
        "scores": {
            str(no): score.model_dump(include=set(PageConfidenceScores.model_fields))
            for no, score in scores.items()
        },
    }
    return json.dumps(part).encode()


def _as(cls: type[StandardPdfPipeline], pipeline: BasePipeline) -> BasePipeline:
    if type(pipeline) is not StandardPdfPipeline:
        return pipeline
    changed = object.__new__(cls)
    vars(changed).update(vars(pipeline))  # the models are shared
    return changed


def dump_page(page: Page) -> dict[str, Any]:
    """What the document as a whole is built from, as plain data."""
    assembled = page.assembled or AssembledUnit()
    places = {id(element): index for index, element in enumerate(assembled.elements)}
    return {
        "page": page.model_dump(mode="json", exclude={"assembled"}),
        # By class: several classes have the same fields.
        "elements": [
            [type(element).__name__, element.model_dump(mode="json")]
            for element in assembled.elements
        ],
        "headers": [places[id(element)] for element in assembled.headers],
        "body": [places[id(element)] for element in assembled.body],
        "lines": _BOXES.dump_python(page._shape_lines, mode="json"),
        "boxes": _BOXES.dump_python(page._shape_bounding_boxes, mode="json"),
    }


def load_page(data: dict[str, Any]) -> Page:
    """The page that :func:`dump_page` was given, as far as the data describes it."""
    page = Page.model_validate(data["page"])
    elements = [_ELEMENTS[name].model_validate(fields) for name, fields in data["elements"]]
    page.assembled = AssembledUnit.model_construct(
        elements=elements,
        headers=[elements[index] for index in data["headers"]],
        body=[elements[index] for index in data["body"]],
    )
    page._shape_lines = _BOXES.validate_python(data["lines"])
    page._shape_bounding_boxes = _BOXES.validate_python(data["boxes"])
    return page


def _take_pages(part: dict[str, Any], conv_res: ConversionResult) -> None:
    conv_res.errors.extend(ErrorItem.model_validate(error) for error in part["errors"])
    conv_res.pages.extend(load_page(page) for page in part["pages"])
    for number, size in part["sizes"].items():
        conv_res._page_sizes_by_no[int(number)] = Size.model_validate(size)
    for number, scores in part["scores"].items():
        conv_res.confidence.pages[int(number)] = PageConfidenceScores.model_validate(scores)
