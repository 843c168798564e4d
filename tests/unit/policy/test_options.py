from __future__ import annotations

import math
from typing import Any

import pytest
from docling.datamodel.service.options import ConvertDocumentsOptions

from docling_serve.policy import PolicyViolation
from tests.unit.policy.deployments import policy

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SPEC = {"name": "m", "default_repo_id": "a/b", "prompt": "p", "response_format": "markdown"}
API_ENGINE = {
    "model_spec": SPEC,
    "engine_options": {"engine_type": "api", "url": "http://localhost/v1"},
}
LOCAL_ENGINE = {"model_spec": SPEC, "engine_options": {"engine_type": "transformers"}}
PRESET = {"id": "p"}


def check(options: dict[str, Any], **settings: Any) -> ConvertDocumentsOptions:
    return policy(**settings).check_options(ConvertDocumentsOptions.model_validate(options))


def refusal(options: dict[str, Any], **settings: Any) -> str:
    with pytest.raises(PolicyViolation) as caught:
        check(options, **settings)
    assert caught.value.status_code == 422
    return str(caught.value.detail)


def test_what_was_not_sent_is_filled_in() -> None:
    asked = ConvertDocumentsOptions()
    checked = policy(max_document_timeout=60.0).check_options(asked)
    assert checked.document_timeout == 60.0
    assert (checked.include_images, checked.include_page_images) == (False, False)
    assert asked == ConvertDocumentsOptions()


def test_images_are_made_where_an_output_shows_them() -> None:
    checked = check({"image_export_mode": "embedded", "include_page_images": True})
    assert (checked.include_images, checked.include_page_images) == (True, True)


@pytest.mark.parametrize("scale", [0, -1, math.nan, -math.inf])
def test_a_scale_of_images_that_nobody_asks_for_is_no_mistake(scale: float) -> None:
    assert check({"images_scale": scale}).images_scale == 2.0
    without = {"image_export_mode": "embedded", "include_images": False}
    assert check({"images_scale": scale, **without}, max_images_scale=1.5).images_scale == 1.5


def test_a_closed_default_is_replaced_by_an_open_one() -> None:
    settings = {
        "max_images_scale": 1.0,
        "allowed_image_export_modes": ["bogus", "referenced", "embedded"],
    }
    checked = check({}, **settings)
    assert checked.images_scale == 1.0
    assert checked.image_export_mode.value == "referenced"
    assert checked.include_images is True
    assert refusal({"images_scale": 2.0}, **settings) == (
        "images_scale exceeds the configured maximum of 1.0."
    )
    assert refusal({"image_export_mode": "placeholder"}, **settings) == (
        "image_export_mode 'placeholder' is not allowed. Allowed modes: referenced, embedded."
    )


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"document_timeout": 0}, "document_timeout must be greater than 0."),
        ({"document_timeout": -1}, "document_timeout must be greater than 0."),
        ({"document_timeout": math.nan}, "document_timeout must be greater than 0."),
        (
            {"document_timeout": math.inf},
            "document_timeout exceeds the configured maximum of 604800.",
        ),
        ({"images_scale": 3}, "images_scale exceeds the configured maximum of 2.0."),
        ({"images_scale": math.inf}, "images_scale exceeds the configured maximum of 2.0."),
        *(
            ({"images_scale": scale, **asked}, "images_scale must be greater than 0 and finite.")
            for scale, asked in [
                (0, {"image_export_mode": "embedded"}),
                (-1, {"do_picture_classification": True}),
                (math.nan, {"pipeline": "vlm"}),
            ]
        ),
        (
            {"pipeline": "asr"},
            "pipeline 'asr' is not supported. Supported pipelines: standard, vlm.",
        ),
    ],
    ids=str,
)
def test_limits(options: dict[str, Any], detail: str) -> None:
    assert refusal(options, max_document_timeout=604800) == detail


@pytest.mark.parametrize(
    ("stage", "label"),
    [
        ("ocr", "OCR"),
        ("layout", "Layout"),
        ("table_structure", "Table structure"),
        ("picture_classification", "Picture classification"),
        ("picture_description", "Picture description"),
        ("code_formula", "Code/formula"),
        ("chart_extraction", "Chart extraction"),
        ("chunking", "Chunking"),
    ],
)
def test_unknown_presets_are_refused_and_the_allowed_are_named(stage: str, label: str) -> None:
    known = policy().stages[stage].presets
    expected = f"{label} preset 'zzz' is not allowed. Allowed presets: {', '.join(sorted(known))}."
    assert refusal({f"{stage}_preset": "zzz"}) == expected
    for preset in known:
        check({f"{stage}_preset": preset}, enable_remote_services=True)


def test_vlm_presets_count_in_the_vlm_pipeline_only() -> None:
    assert refusal({"pipeline": "vlm", "vlm_pipeline_preset": "zzz"}).startswith(
        "VLM preset 'zzz' is not allowed. Allowed presets: chandra_ocr2, "
    )
    check({"vlm_pipeline_preset": "zzz"})
    check({"pipeline": "vlm", "layout_preset": "zzz"})


def test_ocr_has_no_preset_named_default() -> None:
    assert "auto, easyocr, " in refusal({"ocr_preset": "default"})


def test_settings_narrow_and_add_presets() -> None:
    settings = {
        "allowed_layout_presets": ["layout_object_detection", "no_such_kind"],
        "custom_layout_presets": {"mine": {"kind": "plain"}, "broken": {"kind": "no_such_kind"}},
        "allowed_table_structure_presets": ["tableformer_v2"],
        "allowed_chunking_presets": ["minilm_l6", "no_such_preset"],
        "custom_chunking_presets": {"own": PRESET},
        "allowed_picture_classification_presets": [],
    }
    stages = policy(**settings).stages
    assert list(stages["layout"].presets) == ["default", "layout_object_detection", "mine"]
    assert list(stages["table_structure"].presets) == ["default", "tableformer_v2"]
    assert list(stages["chunking"].presets) == ["default", "minilm_l6", "own"]
    assert list(stages["picture_classification"].presets) == ["default"]


def test_presets_of_a_closed_kind_are_closed() -> None:
    stage = policy(allowed_table_structure_kinds=[]).stages["table_structure"]
    assert list(stage.presets) == ["default", "tableformer_v1_accurate", "tableformer_v1_fast"]
    assert stage.implementations == ("docling_tableformer",)


@pytest.mark.parametrize(
    ("stage", "config", "words"),
    [
        ("ocr", {"kind": "rapidocr"}, "OCR"),
        ("layout", {"kind": "plain"}, "layout"),
        ("table_structure", {"kind": "docling_tableformer"}, "table structure"),
        ("picture_classification", {"kind": "x"}, "picture classification"),
        ("picture_description", LOCAL_ENGINE, "picture description"),
        ("code_formula", LOCAL_ENGINE, "code/formula"),
        ("chart_extraction", LOCAL_ENGINE, "chart extraction"),
        ("vlm", LOCAL_ENGINE, "VLM"),
    ],
)
def test_custom_configs_need_permission(stage: str, config: dict[str, Any], words: str) -> None:
    option = "vlm_pipeline_custom_config" if stage == "vlm" else f"{stage}_custom_config"
    assert refusal({option: config}) == (
        f"Custom {words} configuration is not allowed. "
        "Please use a preset or contact your administrator."
    )
    check({option: config}, **{f"allow_custom_{stage}_config": True})


@pytest.mark.parametrize(
    ("config", "detail"),
    [
        (
            {"scale": 1},
            "layout_custom_config must include 'kind', the kind to use. "
            "Allowed kinds: docling_layout_default, plain.",
        ),
        (
            {"kind": "layout_object_detection"},
            "Layout kind 'layout_object_detection' is not allowed. "
            "Allowed kinds: docling_layout_default, plain.",
        ),
        (
            {"kind": "plain", "keep_empty_clusters": "maybe"},
            "layout_custom_config is not valid: keep_empty_clusters: "
            "Input should be a valid boolean, unable to interpret input",
        ),
    ],
    ids=str,
)
def test_custom_config_of_a_kind(config: dict[str, Any], detail: str) -> None:
    settings = {"allow_custom_layout_config": True, "allowed_layout_kinds": ["plain"]}
    assert refusal({"layout_custom_config": config}, **settings) == detail


@pytest.mark.parametrize(
    ("config", "detail"),
    [
        (
            API_ENGINE,
            "Code/formula engine 'api' is not allowed. Allowed engines: transformers.",
        ),
        (
            {"model_spec": SPEC},
            "code_formula_custom_config must include 'engine_options.engine_type', "
            "the engine to use. Allowed engines: transformers.",
        ),
        (
            {"engine_options": {"engine_type": "transformers"}},
            "code_formula_custom_config is not valid: model_spec: Field required",
        ),
    ],
    ids=["engine", "none", "incomplete"],
)
def test_custom_config_of_an_engine(config: dict[str, Any], detail: str) -> None:
    settings = {
        "allow_custom_code_formula_config": True,
        "allowed_code_formula_engines": ["transformers"],
    }
    assert refusal({"code_formula_custom_config": config}, **settings) == detail


def test_presets_of_a_closed_engine_are_closed() -> None:
    stage = policy(allowed_chart_extraction_engines=["mlx"]).stages["chart_extraction"]
    assert list(stage.presets) == ["granite_vision_v4_mlx"]


@pytest.mark.parametrize(
    "options",
    [
        {
            "do_picture_description": True,
            "picture_description_api": {"url": "http://localhost/v1"},
        },
        {"do_picture_description": True, "picture_description_custom_config": API_ENGINE},
        {"do_picture_description": True, "picture_description_preset": "remote"},
        {"pipeline": "vlm", "vlm_pipeline_preset": "deepseek_ocr"},
        {"pipeline": "vlm", "vlm_pipeline_model": "granite_vision_ollama"},
        {
            "pipeline": "vlm",
            "vlm_pipeline_model_api": {
                "url": "http://localhost/v1",
                "response_format": "markdown",
            },
        },
        {"ocr_preset": "kserve_v2_ocr"},
    ],
    ids=lambda options: max(options, key=len),
)
def test_remote_services_need_permission(options: dict[str, Any]) -> None:
    settings = {
        "allow_custom_picture_description_config": True,
        "custom_picture_description_presets": {"remote": API_ENGINE},
    }
    assert "needs remote services, which this server does not allow" in refusal(options, **settings)
    check(options, enable_remote_services=True, **settings)
    # With the stage off nothing is called, so nothing is refused.
    off = options | {"do_picture_description": False, "do_ocr": False}
    if "pipeline" not in options:
        check(off, **settings)


def test_a_remote_default_preset_is_seen_when_its_stage_is_on() -> None:
    settings = {
        "custom_picture_description_presets": {"remote": API_ENGINE},
        "default_picture_description_preset": "remote",
    }
    assert "engine 'api' needs remote services" in refusal(
        {"do_picture_description": True}, **settings
    )
    local = {"do_picture_description": True, "picture_description_local": {"repo_id": "a/b"}}
    check(local, **settings)
    check({}, **settings)


def test_an_engine_that_is_not_installed_is_refused() -> None:
    missing = {"missing_ocr": frozenset({"easyocr", "tesseract"})}
    asked = ConvertDocumentsOptions(ocr_preset="easyocr")
    with pytest.raises(PolicyViolation) as caught:
        policy(missing).check_options(asked)
    assert str(caught.value.detail).startswith(
        "OCR engine 'easyocr' is not installed on this server. Installed: auto, kserve_v2_ocr, "
    )
    policy(missing).check_options(ConvertDocumentsOptions(ocr_preset="easyocr", do_ocr=False))
    # Workers of another engine are other installations.
    policy(missing, eng_kind="rq").check_options(asked)
    # A path to the program makes the one on the search path irrelevant.
    own = {"kind": "tesseract", "tesseract_cmd": "/opt/tesseract", "lang": ["eng"]}
    policy(missing, allow_custom_ocr_config=True).check_options(
        ConvertDocumentsOptions(ocr_custom_config=own)
    )


def test_ocr_languages() -> None:
    assert check({"ocr_lang": ["en, de", "", "fr"]}).ocr_lang == ["en", "de", "fr"]
    assert check({"ocr_lang": []}).ocr_lang == []
    assert refusal({"ocr_lang": ["iso:nope"]}).startswith("ocr_lang: Invalid OCR language iso:nope")
    # An engine whose settings need more than languages is judged by the languages alone.
    check({"ocr_lang": ["en"], "ocr_preset": "kserve_v2_ocr"}, enable_remote_services=True)


@pytest.mark.parametrize(
    ("settings", "preset"),
    [
        ({}, "auto"),
        ({"default_ocr_preset": "rapidocr"}, "rapidocr"),
        ({"default_ocr_preset": "no_such_engine"}, "auto"),
        ({"default_ocr_preset": "kserve_v2_ocr"}, "auto"),
        ({"allowed_ocr_presets": ["tesseract", "rapidocr"]}, "tesseract"),
        (
            {"default_ocr_preset": "easyocr", "custom_ocr_presets": {"auto": {"kind": "rapidocr"}}},
            "auto",
        ),
    ],
    ids=str,
)
def test_ocr_preset_of_a_request_that_names_none(settings: dict[str, Any], preset: str) -> None:
    assert check({}, **settings).ocr_preset == preset
    named = check({"ocr_preset": "rapidocr"}, **settings)
    assert named.ocr_preset == "rapidocr"


def test_kinds_of_an_unreadable_plugin_are_left_to_the_worker() -> None:
    deployment = policy(
        {"open_stages": frozenset({"ocr", "layout", "table_structure"})},
        allow_custom_layout_config=True,
    )
    for options in (
        {"ocr_preset": "their_ocr"},
        {"layout_custom_config": {"kind": "their_layout", "anything": 1}},
        {"table_structure_preset": "their_tables"},
    ):
        deployment.check_options(ConvertDocumentsOptions.model_validate(options))
