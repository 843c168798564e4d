from __future__ import annotations

from typing import Any

import pytest
from docling.datamodel.service.options import ConvertDocumentsOptions

from docling_serve.cli.client.request_options import NAMES, as_json, complete, parse

#: Set by the command itself, or by fields of its own.
_OWN = {"to_formats"}


def test_every_option_of_a_request_is_known() -> None:
    assert set(ConvertDocumentsOptions.model_fields) - NAMES - _OWN == set()


@pytest.mark.parametrize(
    ("pairs", "sent"),
    [
        (["do_ocr=false"], {"do_ocr": False}),
        (["images_scale=1.5"], {"images_scale": 1.5}),
        (["pipeline=vlm"], {"pipeline": "vlm"}),
        (["ocr_lang=en"], {"ocr_lang": ["en"]}),
        (["ocr_lang=en,de", "ocr_lang=fr"], {"ocr_lang": ["en", "de", "fr"]}),
        (["page_range=[1, 3]"], {"page_range": [1, 3]}),
        (["page_range=1,3"], {"page_range": [1, 3]}),
        (['ocr_custom_config={"kind": "x"}'], {"ocr_custom_config": {"kind": "x"}}),
    ],
)
def test_values_in_a_json_request(pairs: list[str], sent: dict[str, Any]) -> None:
    assert as_json(parse(pairs)) == sent


def test_a_shell_is_offered_names() -> None:
    assert complete("force") == ["force_ocr="]
