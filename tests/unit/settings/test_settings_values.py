"""Texts that become lists, mappings and switches; checks over several settings."""

import os
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from docling_serve.settings import (
    SECRET_FIELDS,
    AsyncEngine,
    DoclingServeSettings,
    describe_settings_error,
)


def from_environment(monkeypatch: pytest.MonkeyPatch, field: str, text: str) -> Any:
    monkeypatch.setenv(f"DOCLING_SERVE_{field.upper()}", text)
    return getattr(DoclingServeSettings(), field)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ["a"]),
        (" a , b ,, c ", ["a", "b", "c"]),
        ('["a", "b,c"]', ["a", "b,c"]),
        ("[]", []),
        (" , ,", None),
        ("3", ["3"]),
        ("[3, 4]", ["3", "4"]),
        ('"a, b"', ["a", "b"]),
        ("null", None),
        (" ", None),
    ],
)
def test_name_lists(text: str, expected: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_environment(monkeypatch, "allowed_ocr_presets", text) == expected


@pytest.mark.parametrize("value", [3, {"a": 1}, True, '{"a": 1}', '["a", null]', "[{}]"])
def test_what_only_looks_like_a_restriction_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="must be names separated by commas, or a JSON array"):
        DoclingServeSettings(allowed_ocr_presets=value)


@pytest.mark.parametrize(
    ("text", "expected"), [('{"a": {"b": 1}}', {"a": {"b": 1}}), ("[1]", {}), ("3", {})]
)
def test_presets(text: str, expected: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_environment(monkeypatch, "custom_layout_presets", text) == expected


def test_cors_lists_are_json_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_environment(monkeypatch, "cors_origins", '["https://a", "https://b"]') == [
        "https://a",
        "https://b",
    ]
    with pytest.raises(ValidationError, match="must be a JSON array"):
        from_environment(monkeypatch, "cors_origins", "https://a,https://b")


def test_ray_runtime_env_is_a_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_environment(monkeypatch, "eng_ray_runtime_env", '{"pip": []}') == {"pip": []}
    with pytest.raises(ValidationError, match="must be a JSON object"):
        from_environment(monkeypatch, "eng_ray_runtime_env", "[]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, True) for text in ("true", "True", "1", "yes", "ON")),
        *((text, False) for text in ("false", "FALSE", "0", "No", "off")),
        *((text, "auto") for text in ("auto", " AUTO ")),
    ],
)
def test_subprocess_switch(text: str, expected: object, monkeypatch: pytest.MonkeyPatch) -> None:
    value = from_environment(monkeypatch, "use_subprocess_for_ocr", text)
    assert value == expected
    assert isinstance(value, type(expected))


@pytest.mark.parametrize("value", [True, 1])
def test_subprocess_switch_of_a_config_file(value: object) -> None:
    assert DoclingServeSettings(use_subprocess=value).use_subprocess_for_ocr is True


@pytest.mark.parametrize("value", ["maybe", 2, 1.0, []])
def test_subprocess_switch_refuses_the_rest(value: object) -> None:
    with pytest.raises(ValidationError, match="must be true, false or auto"):
        DoclingServeSettings(use_subprocess=value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subprocess_timeout", 0),
        ("subprocess_timeout", float("inf")),
        ("subprocess_max_workers", 0),
        ("subprocess_start_method", "fork"),
        ("subprocess_prewarm", -1),
        ("subprocess_idle_timeout", -1),
        ("subprocess_max_tasks", -1),
        ("subprocess_stop_grace", -1),
        ("shutdown_grace", -1),
        ("unload_external_model_timeout", 0),
        ("eng_ray_target_requests_per_replica", 0),
        ("eng_ray_coordinator_target_requests_per_replica", 0),
        ("eng_ray_tenant_metrics_refresh_interval", 0),
    ],
)
def test_out_of_range(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        DoclingServeSettings(**{field: value})
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


def test_defaults_of_the_mode() -> None:
    loaded = DoclingServeSettings()
    assert loaded.use_subprocess_for_ocr is False
    assert loaded.subprocess_timeout == 600
    assert loaded.subprocess_max_workers == 1
    assert loaded.subprocess_start_method == "spawn"
    assert loaded.subprocess_prewarm is None
    assert loaded.standby_processes() == 1
    assert loaded.subprocess_preload_torch is False
    assert loaded.subprocess_idle_timeout == 0
    assert loaded.subprocess_max_tasks == 0
    assert loaded.subprocess_stop_grace == 5
    assert loaded.shutdown_grace == 30
    assert loaded.free_vram_on_idle is None
    assert loaded.unload_ollama_base_url == ""
    assert loaded.unload_ollama_model == ""
    assert loaded.unload_llama_swap_base_url == ""
    assert loaded.unload_external_model_timeout == 10
    assert loaded.sync_cancel_on_timeout
    assert loaded.sync_cancel_on_disconnect


@pytest.mark.parametrize(
    ("setting", "in_subprocess_mode", "without"),
    [(None, True, False), (True, True, True), (False, False, False)],
)
def test_free_vram_on_idle(setting: bool | None, in_subprocess_mode: bool, without: bool) -> None:
    loaded = DoclingServeSettings(free_vram_on_idle=setting, subprocess_idle_timeout=60)
    assert loaded.frees_vram_on_idle(True) is in_subprocess_mode
    assert loaded.frees_vram_on_idle(False) is without
    assert loaded.worker_idle_timeout_s() == (0 if in_subprocess_mode else 60)


@pytest.mark.parametrize(
    ("names", "expected"),
    [("convert", ["convert"]), (" a ,,b ", ["a", "b"]), ("", ["convert"]), (" , ", ["convert"])],
)
def test_rq_queue_names(names: str, expected: list[str]) -> None:
    assert DoclingServeSettings(eng_rq_queue_name=names).eng_rq_queue_names == expected


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({"eng_kind": "rq"}, ["DOCLING_SERVE_ENG_RQ_REDIS_URL"]),
        (
            {"eng_kind": "ray"},
            ["DOCLING_SERVE_ENG_RAY_REDIS_URL", "DOCLING_SERVE_ENG_RAY_ADDRESS"],
        ),
        (
            {"eng_kind": "ray", "eng_ray_redis_url": "redis://r"},
            ["DOCLING_SERVE_ENG_RAY_ADDRESS"],
        ),
        (
            {
                "artifact_storage_enabled": True,
                "artifact_storage_backend": "azure",
                "artifact_storage_azure_container": "c",
                "api_key": "sesame",
            },
            [
                "DOCLING_SERVE_ARTIFACT_STORAGE_AZURE_CONNECTION_STRING",
                "DOCLING_SERVE_ARTIFACT_STORAGE_AZURE_ACCOUNT_NAME",
            ],
        ),
    ],
)
def test_a_choice_needs_its_settings(values: dict[str, Any], missing: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        DoclingServeSettings(**values)
    described = describe_settings_error(caught.value)
    named = [word.strip("(),") for word in described.split() if "DOCLING_SERVE_" in word]
    assert named == missing
    assert "sesame" not in described + str(caught.value)


def test_complete_choices_are_accepted() -> None:
    assert DoclingServeSettings(eng_kind="rq", eng_rq_redis_url="r").eng_kind is AsyncEngine.RQ
    ray = DoclingServeSettings(eng_kind="ray", eng_ray_redis_url="r", eng_ray_address="auto")
    assert ray.eng_kind is AsyncEngine.RAY
    assert DoclingServeSettings(artifact_storage_backend="azure").artifact_storage_enabled is False


def test_secrets_are_marked() -> None:
    looks_secret = {
        name
        for name in DoclingServeSettings.model_fields
        if name.endswith(("_key", "redis_url", "connection_string"))
    }
    assert looks_secret
    assert looks_secret <= SECRET_FIELDS
    assert "ssl_keyfile_password" in SECRET_FIELDS
    assert "max_sync_wait" not in SECRET_FIELDS


def test_secrets_are_not_part_of_the_representation() -> None:
    shown = repr(DoclingServeSettings(api_key="sesame", eng_rq_redis_url="redis://:sesame@r"))
    assert "max_sync_wait" in shown
    assert "sesame" not in shown


def test_importing_the_settings_loads_no_heavy_library_and_reads_no_value() -> None:
    code = (
        "import sys, docling_serve.settings\n"
        "heavy = {'torch', 'transformers', 'docling', 'docling_core', 'fastapi'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    environ = {**os.environ, "DOCLING_SERVE_MAX_SYNC_WAIT": "soon"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, 1),
        ({"subprocess_start_method": "forkserver"}, 0),
        ({"subprocess_start_method": "forkserver", "subprocess_prewarm": 2}, 2),
        ({"subprocess_prewarm": 0}, 0),
        ({"subprocess_prewarm": 3}, 3),
    ],
)
def test_what_is_kept_ready(values: dict[str, Any], expected: int) -> None:
    assert DoclingServeSettings(**values).standby_processes() == expected
