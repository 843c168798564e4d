from __future__ import annotations

import math

import pytest
from docling.datamodel.base_models import ConfidenceReport, Page, PageConfidenceScores
from docling.datamodel.document import ConversionResult

from docling_serve.conversion.reports import ProgressTracker


@pytest.mark.parametrize(
    ("scores", "ran"),
    [([], False), ([math.nan, math.nan], False), ([math.nan, 0.9], True), ([0.0], True)],
)
def test_ocr_ran_where_a_page_has_a_score_of_recognised_text(
    scores: list[float], ran: bool
) -> None:
    pages = {no: PageConfidenceScores(ocr_score=score) for no, score in enumerate(scores)}
    result = ConversionResult.model_construct(
        confidence=ConfidenceReport(pages=pages), pages=[Page(page_no=no) for no in pages]
    )
    tracker = ProgressTracker(lambda _: None, 1)

    tracker.look_at(result)

    assert tracker.ocr_ran is ran
    assert tracker.pages == len(scores)
