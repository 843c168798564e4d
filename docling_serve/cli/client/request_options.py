"""The options of a conversion request, as a terminal names them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer

#: Fields of a request that take several values: repeat them, or separate values by commas.
LISTS = frozenset({"from_formats", "ocr_lang", "page_range"})

_OTHERS = """
image_export_mode do_ocr force_ocr ocr_engine ocr_preset ocr_custom_config pdf_backend
table_mode table_cell_matching pipeline document_timeout abort_on_error do_table_structure
do_pdf_heading_hierarchy pdf_heading_hierarchy_options include_images include_page_images
images_scale md_page_break_placeholder md_compact_tables do_code_enrichment
do_formula_enrichment do_picture_classification do_chart_extraction chart_extraction_preset
chart_extraction_custom_config do_picture_description picture_description_area_threshold
picture_description_local picture_description_api vlm_pipeline_model vlm_pipeline_model_local
vlm_pipeline_model_api vlm_pipeline_preset picture_description_preset code_formula_preset
vlm_pipeline_custom_config picture_description_custom_config code_formula_custom_config
table_structure_preset table_structure_custom_config layout_custom_config layout_preset
picture_classification_preset picture_classification_custom_config chunking_options
chunking_preset
"""
#: All fields that a conversion request takes, except what the command sets itself.
NAMES = LISTS | frozenset(_OTHERS.split())

Options = Mapping[str, Sequence[str]]


def parse(pairs: Sequence[str]) -> dict[str, list[str]]:
    """``name=value`` pairs as lists of values by name.

    Raises:
        typer.BadParameter: a pair without ``=``, or a name that no request takes.
    """
    options: dict[str, list[str]] = {}
    for pair in pairs:
        name, found, value = pair.partition("=")
        if not found:
            raise typer.BadParameter(f"{pair!r} is not name=value", param_hint="--option")
        if name not in NAMES:
            close = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise typer.BadParameter(f"unknown option {name!r}{hint}", param_hint="--option")
        options.setdefault(name, []).append(value)
    return options


def complete(begun: str) -> list[str]:
    """Names for shell completion."""
    return sorted(f"{name}=" for name in NAMES if name.startswith(begun))


def as_json(options: Options) -> dict[str, Any]:
    """``options`` as the ``options`` of a JSON request: values that are valid JSON are parsed."""
    return {name: _json_value(name, values) for name, values in options.items()}


def _json_value(name: str, values: Sequence[str]) -> Any:
    if name not in LISTS:
        return _parsed(values[-1])
    found: list[Any] = []
    for value in values:
        parsed = _parsed(value)
        if isinstance(parsed, str):
            found += [_parsed(item.strip()) for item in parsed.split(",")]
        else:
            found += parsed if isinstance(parsed, list) else [parsed]
    return found


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
