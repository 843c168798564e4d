"""What a lite install offers, and how it refuses what it lacks."""

from __future__ import annotations

from typing import Any

import pytest
from docling.datamodel.service.chunking import HierarchicalChunkerOptions, HybridChunkerOptions
from docling.datamodel.service.options import ConvertDocumentsOptions

from docling_serve.api.capabilities import capabilities
from docling_serve.policy import PolicyViolation, Registry, ServicePolicy
from docling_serve.policy.needs import MODULES
from docling_serve.settings import DoclingServeSettings
from docling_serve.settings.lite import defaults_of_this_install

FULL = "pip install 'docling-serve')"
VLM = "pip install 'docling-serve[vlm]')"
TOKENS = "pip install 'docling-core[chunking]')"
API_PRESET = {
    "kind": "api",
    "engine_options": {"engine_type": "api", "url": "http://localhost/v1/chat/completions"},
}


@pytest.fixture
def lite(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the policy of a lite install with further settings."""
    monkeypatch.setattr("docling_serve.settings.lite.is_lite", lambda: True)
    monkeypatch.setattr("docling_serve.policy.registry.is_installed", lambda _: False)
    registry = Registry.discover(allow_external_plugins=True)
    assert registry.absent == MODULES

    def make(**settings: Any) -> tuple[DoclingServeSettings, ServicePolicy]:
        values = {**defaults_of_this_install(), **settings}
        made = DoclingServeSettings.model_construct(**values)
        return made, ServicePolicy.from_settings(made, registry)

    return make


def _refusal(policy: ServicePolicy, **options: Any) -> str:
    with pytest.raises(PolicyViolation) as caught:
        policy.check_options(ConvertDocumentsOptions(**options))
    return str(caught.value.detail)


def test_a_request_without_options_is_accepted(lite: Any) -> None:
    _, policy = lite()

    checked = policy.check_options(ConvertDocumentsOptions())

    assert checked.do_table_structure


def test_it_offers_the_embedded_stages_only(lite: Any) -> None:
    offered = capabilities(*lite()).stages

    assert {name: [preset.id for preset in stage.presets] for name, stage in offered.items()} == {
        "ocr": ["auto", "rapidocr"],
        "layout": ["default", "embedded", "full_page"],
        "table_structure": ["default", "embedded", "none"],
        "vlm_pipeline": ["deepseek_ocr", "unlimited_ocr"],
        "chunking": ["hierarchical"],
    }


@pytest.mark.parametrize(
    ("options", "requirement"),
    [
        ({"pipeline": "vlm"}, VLM),
        ({"pipeline": "vlm", "vlm_pipeline_preset": "granite_docling"}, VLM),
        ({"pipeline": "vlm", "vlm_pipeline_model": "smoldocling"}, VLM),
        ({"do_picture_description": True}, VLM),
        ({"do_picture_description": True, "picture_description_preset": "smolvlm"}, VLM),
        (
            {
                "do_picture_description": True,
                "picture_description_local": {"repo_id": "somebody/model"},
            },
            VLM,
        ),
        ({"do_formula_enrichment": True}, VLM),
        ({"do_code_enrichment": True, "code_formula_preset": "codeformulav2"}, VLM),
        ({"do_chart_extraction": True}, VLM),
        ({"do_picture_classification": True}, FULL),
        ({"to_formats": ["chunks"]}, TOKENS),
        ({"to_formats": ["chunks"], "chunking_options": {"chunker": "hybrid"}}, TOKENS),
        ({"to_formats": ["chunks"], "chunking_preset": "minilm_l6"}, TOKENS),
    ],
)
def test_a_stage_that_is_not_installed_is_refused(
    lite: Any, options: dict[str, Any], requirement: str
) -> None:
    _, policy = lite()

    detail = _refusal(policy, **options)

    assert "not installed on this server" in detail
    assert detail.endswith(f"{requirement}.")


def test_docling_s_own_layout_and_tables_are_refused(lite: Any) -> None:
    _, policy = lite(
        allowed_layout_presets=["docling_layout_default"],
        allowed_table_structure_presets=None,
        allow_custom_table_structure_config=True,
    )

    for options in (
        {"layout_preset": "docling_layout_default"},
        {"table_structure_preset": "tableformer_v2"},
        {"table_structure_custom_config": {"kind": "docling_tableformer"}},
    ):
        assert _refusal(policy, **options).endswith(f"{FULL}.")


def test_a_model_in_a_service_is_allowed(lite: Any) -> None:
    _, policy = lite(
        enable_remote_services=True,
        default_picture_description_preset="ours",
        custom_picture_description_presets={"ours": API_PRESET},
    )
    service = {"url": "http://localhost/v1/chat/completions", "params": {"model": "m"}}

    for options in (
        {},
        {"picture_description_preset": "ours"},
        {"picture_description_api": service},
    ):
        policy.check_options(ConvertDocumentsOptions(do_picture_description=True, **options))


def test_chunks_by_structure_are_allowed_and_by_tokens_refused(lite: Any) -> None:
    _, policy = lite(default_chunking_preset="hierarchical")

    policy.check_chunker(HierarchicalChunkerOptions())
    policy.check_options(ConvertDocumentsOptions(to_formats=["chunks"]))
    with pytest.raises(PolicyViolation, match=r"docling-core\[chunking\]"):
        policy.check_chunker(HybridChunkerOptions())


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("default_layout_kind", "docling_layout_default"),
        ("default_table_structure_kind", "docling_tableformer"),
    ],
)
def test_a_server_whose_default_is_not_installed_does_not_start(
    lite: Any, setting: str, value: str
) -> None:
    with pytest.raises(ValueError, match=f"{setting}: '{value}' cannot be used"):
        lite(**{setting: value})


def test_another_engine_s_workers_may_have_what_this_server_lacks(lite: Any) -> None:
    _, policy = lite(eng_kind="rq")

    policy.check_options(ConvertDocumentsOptions(do_picture_description=True))
