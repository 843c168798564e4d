"""RapidOCR's sessions plan no memory."""

from __future__ import annotations

from rapidocr import RapidOCR

from docling_serve.internals.rapidocr_sessions import plan_no_memory


def test_a_session_of_rapidocr_plans_no_memory() -> None:
    plan_no_memory()
    plan_no_memory()

    session = RapidOCR()._load_cls_model().session.session

    assert session.get_session_options().enable_mem_pattern is False
