"""The capabilities document says what requests may ask for, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from docling_serve.api.capabilities import CapabilitiesResponse, capabilities
from docling_serve.policy import ServicePolicy
from docling_serve.settings import DoclingServeSettings
from tests.helpers.rest_server import everything_installed, settings_of


def document(**values: Any) -> CapabilitiesResponse:
    settings: DoclingServeSettings = settings_of(**values)
    return capabilities(settings, ServicePolicy.from_settings(settings, everything_installed()))


def test_default_server() -> None:
    made = document()
    assert list(made.stages) == [
        "ocr",
        "layout",
        "table_structure",
        "vlm_pipeline",
        "picture_description",
        "picture_classification",
        "code_formula",
        "chart_extraction",
        "chunking",
    ]
    assert "file" in made.sources
    assert made.targets.default == "inbody"
    assert made.image_export_modes == ["embedded", "placeholder", "referenced"]
    assert made.limits.max_num_pages is None
    assert made.features.model_dump() == {
        "api_key_required": False,
        "artifact_storage": False,
        "websocket": True,
    }


def test_presets_have_the_names_docling_gives_them() -> None:
    stage = document().stages["vlm_pipeline"]
    default, *rest = stage.presets
    assert default.model_dump() == {
        "id": "default",
        "name": "Server default (granite_docling)",
        "description": None,
        "source": "default",
    }
    smoldocling = next(preset for preset in rest if preset.id == "smoldocling")
    assert smoldocling.name == "SmolDocling"
    assert smoldocling.description


def test_of_a_custom_preset_only_the_id_is_shown() -> None:
    custom = {"ours": {"kind": "rapidocr", "rapidocr_params": {"secret": "x"}}}
    stage = document(custom_ocr_presets=custom).stages["ocr"]
    (ours,) = [preset for preset in stage.presets if preset.source == "custom"]
    assert ours.model_dump() == {
        "id": "ours",
        "name": "ours",
        "description": None,
        "source": "custom",
    }


def test_custom_configuration_is_named_only_where_it_is_allowed() -> None:
    assert document().stages["layout"].custom_config_option is None
    opened = document(allow_custom_layout_config=True).stages["layout"]
    assert opened.custom_config_option == "layout_custom_config"
    assert opened.option == "layout_preset"


@pytest.mark.parametrize(
    ("settings", "default"),
    [
        ({"allowed_target_types": ["zip"]}, "zip"),
        ({"allowed_target_types": ["s3"]}, "s3"),
        ({"artifact_storage_enabled": True}, "presigned_url"),
    ],
)
def test_default_target_is_one_that_is_open(settings: dict[str, Any], default: str) -> None:
    assert document(**settings).targets.default == default


def test_settings_show() -> None:
    made = document(
        show_version_info=False, api_key="x", max_num_pages=7, allowed_source_types=["s3", "http"]
    )
    assert made.versions is None
    assert made.features.api_key_required
    assert made.limits.max_num_pages == 7
    assert made.sources == ["http", "s3"]


def test_versions_are_those_of_docling() -> None:
    versions = document().versions
    assert versions
    assert all(name.startswith("docling") for name in versions)
