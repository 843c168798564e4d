"""Precedence of the sources, second names, empty values, config files."""

import importlib
import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from docling_serve import settings as settings_package
from docling_serve.settings import (
    DoclingServeSettings,
    UvicornSettings,
    describe_settings_error,
    env_names,
)


def use_config_file(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    Path(name).write_text(text)
    monkeypatch.setenv("DOCLING_SERVE_CONFIG_FILE", name)


def test_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert DoclingServeSettings().max_sync_wait == 120
    use_config_file(monkeypatch, "s.yaml", "max_sync_wait: 1\nmax_num_pages: 11\n")
    assert DoclingServeSettings().max_sync_wait == 1
    Path(".env").write_text("DOCLING_SERVE_MAX_SYNC_WAIT=2\nDOCLING_SERVE_QUEUE_MAX_SIZE=22\n")
    assert DoclingServeSettings().max_sync_wait == 2
    monkeypatch.setenv("DOCLING_SERVE_MAX_SYNC_WAIT", "3")
    assert DoclingServeSettings().max_sync_wait == 3
    strongest = DoclingServeSettings(max_sync_wait=4)
    assert strongest.max_sync_wait == 4
    assert (strongest.max_num_pages, strongest.queue_max_size) == (11, 22)


def test_a_list_of_a_stronger_source_replaces_the_weaker_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_config_file(
        monkeypatch, "s.json", '{"custom_ocr_presets": {"a": {}}, "allowed_ocr_kinds": ["a"]}'
    )
    monkeypatch.setenv("DOCLING_SERVE_CUSTOM_OCR_PRESETS", '{"b": {}}')
    monkeypatch.setenv("DOCLING_SERVE_ALLOWED_OCR_KINDS", "b")
    loaded = DoclingServeSettings()
    assert loaded.custom_ocr_presets == {"b": {}}
    assert loaded.allowed_ocr_kinds == ["b"]


def test_unprefixed_keys_of_dotenv_do_not_count() -> None:
    Path(".env").write_text("API_KEY=other\nmax_sync_wait=1\nUVICORN_PORT=99\nport=98\n")
    loaded = DoclingServeSettings()
    assert (loaded.api_key, loaded.max_sync_wait) == ("", 120)
    assert loaded.model_extra == {}
    assert UvicornSettings().port == 99


def test_uvicorn_takes_no_config_file(monkeypatch: pytest.MonkeyPatch) -> None:
    use_config_file(monkeypatch, "s.yaml", "port: 99\n")
    assert UvicornSettings().port == 5001
    assert UvicornSettings(port=1).port == 1


# --- second names


@pytest.mark.parametrize("key", ["use_subprocess", "use_subprocess_for_ocr"])
@pytest.mark.parametrize("source", ["environment", "dotenv", "yaml", "constructor"])
def test_both_names_of_the_mode_work_in_every_source(
    key: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"DOCLING_SERVE_{key.upper()}"
    arguments: dict[str, Any] = {}
    if source == "environment":
        monkeypatch.setenv(variable, "auto")
    elif source == "dotenv":
        Path(".env").write_text(f"{variable}=auto\n")
    elif source == "yaml":
        use_config_file(monkeypatch, "s.yml", f"{key}: auto\n")
    else:
        arguments = {key: "auto"}
    loaded = DoclingServeSettings(**arguments)
    assert loaded.use_subprocess_for_ocr == "auto"
    assert loaded.model_extra == {}


def test_the_short_name_of_the_mode_wins_unless_it_is_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCLING_SERVE_USE_SUBPROCESS_FOR_OCR", "false")
    monkeypatch.setenv("DOCLING_SERVE_USE_SUBPROCESS", "true")
    assert DoclingServeSettings().use_subprocess_for_ocr is True
    monkeypatch.setenv("DOCLING_SERVE_USE_SUBPROCESS", "")
    assert DoclingServeSettings().use_subprocess_for_ocr is False


def test_a_second_name_in_a_stronger_source_wins_over_the_first_in_a_weaker_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text("DOCLING_SERVE_USE_SUBPROCESS=true\n")
    monkeypatch.setenv("DOCLING_SERVE_USE_SUBPROCESS_FOR_OCR", "false")
    assert DoclingServeSettings().use_subprocess_for_ocr is False
    assert DoclingServeSettings(use_subprocess_for_ocr=True).use_subprocess_for_ocr is True


def test_legacy_ray_names_work_and_are_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DOCLING_SERVE_ENG_RAY_NUM_CPUS_PER_ACTOR", "2")
    monkeypatch.setenv("DOCLING_SERVE_ENG_RAY_MEMORY_LIMIT_PER_ACTOR", "8GB")
    with caplog.at_level(logging.WARNING):
        loaded = DoclingServeSettings()
    assert loaded.eng_ray_converter_actor_num_cpus == 2
    assert loaded.eng_ray_converter_actor_memory_request == "8GB"
    assert "eng_ray_num_cpus_per_actor is deprecated" in caplog.text
    monkeypatch.setenv("DOCLING_SERVE_ENG_RAY_CONVERTER_ACTOR_NUM_CPUS", "3")
    assert DoclingServeSettings().eng_ray_converter_actor_num_cpus == 3


# --- empty values


def test_empty_variables_count_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    null_means_no_limit = {
        "eng_ray_task_metadata_ttl",
        "eng_ray_task_timeout",
        "eng_ray_document_timeout",
    }
    default = DoclingServeSettings()
    for field_name in DoclingServeSettings.model_fields:
        for variable in env_names(field_name):
            monkeypatch.setenv(variable, "")
    loaded = DoclingServeSettings().model_dump()
    expected = default.model_dump() | dict.fromkeys(null_means_no_limit)
    assert loaded == expected


def test_empty_uvicorn_variables_count_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    default = UvicornSettings()
    for field_name in UvicornSettings.model_fields:
        monkeypatch.setenv(env_names(field_name, UvicornSettings)[0], "")
    assert UvicornSettings() == default


def test_an_empty_variable_leaves_the_weaker_source_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("DOCLING_SERVE_API_KEY=k\n")
    monkeypatch.setenv("DOCLING_SERVE_API_KEY", "")
    assert DoclingServeSettings().api_key == "k"


# --- config file


def test_yaml_file_with_all_kinds_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    use_config_file(
        monkeypatch,
        "s.yaml",
        """
        eng_kind: local
        log_level: info
        cors_origins: [https://a.example]
        allowed_ocr_presets: [auto, rapidocr]
        allowed_layout_kinds: a, b
        custom_ocr_presets: {mine: {kind: rapidocr}}
        use_subprocess: on
        artifacts_path: /models
        not_ours: 1
        api_key:
        eng_ray_task_timeout:
        """,
    )
    loaded = DoclingServeSettings()
    assert loaded.log_level == "INFO"
    assert loaded.cors_origins == ["https://a.example"]
    assert loaded.allowed_ocr_presets == ["auto", "rapidocr"]
    assert loaded.allowed_layout_kinds == ["a", "b"]
    assert loaded.custom_ocr_presets == {"mine": {"kind": "rapidocr"}}
    assert loaded.use_subprocess_for_ocr is True
    assert loaded.artifacts_path == Path("/models")
    assert loaded.api_key == ""
    assert loaded.eng_ray_task_timeout is None
    assert loaded.model_extra == {"not_ours": 1}


def test_json_file(monkeypatch: pytest.MonkeyPatch) -> None:
    use_config_file(monkeypatch, "s.json", '{"max_sync_wait": 7}')
    loaded = DoclingServeSettings()
    assert loaded.max_sync_wait == 7
    assert loaded.config_file == Path("s.json")


def test_config_file_of_dotenv_or_constructor_is_not_followed() -> None:
    Path("s.yaml").write_text("max_sync_wait: 7\n")
    Path(".env").write_text("DOCLING_SERVE_CONFIG_FILE=s.yaml\n")
    loaded = DoclingServeSettings()
    assert loaded.config_file == Path("s.yaml")
    assert loaded.max_sync_wait == 120
    assert DoclingServeSettings(config_file=Path("s.yaml")).max_sync_wait == 120


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("s.toml", "a = 1", "must end in .yaml, .yml or .json"),
        ("s.json", "{", "is not valid JSON"),
        ("s.json", "", "is not valid JSON"),
        ("s.yaml", "api_key: 'sesame", "is not valid YAML at line"),
        ("s.yaml", "", "must hold a mapping"),
        ("s.yaml", "[ab, cd]", "must hold a mapping"),
        ("s.yaml", "1: 2", "must hold a mapping"),
    ],
)
def test_unusable_config_file_stops_the_start(
    name: str, text: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_config_file(monkeypatch, name, text)
    with pytest.raises(ValidationError) as caught:
        DoclingServeSettings()
    described = describe_settings_error(caught.value)
    assert described.startswith("DOCLING_SERVE_CONFIG_FILE")
    assert reason in described
    assert repr(name) in described
    assert "sesame" not in described + str(caught.value)


def test_missing_config_file_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCLING_SERVE_CONFIG_FILE", "none.yaml")
    with pytest.raises(ValidationError) as caught:
        DoclingServeSettings()
    assert "cannot be read: No such file" in describe_settings_error(caught.value)


# --- shared instances


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("docling_serve_settings", "DOCLING_SERVE_MAX_SYNC_WAIT"),
        ("uvicorn_settings", "UVICORN_PORT"),
    ],
)
def test_shared_instances_are_made_once_and_only_when_asked_for(
    name: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = vars(settings_package)
    monkeypatch.setitem(namespace, name, None)
    del namespace[name]
    monkeypatch.setenv(variable, "soon")
    with pytest.raises(ValidationError):
        getattr(settings_package, name)
    monkeypatch.setenv(variable, "8")
    made = getattr(settings_package, name)
    assert made is getattr(settings_package, name)


def test_a_reload_reads_the_environment_again(monkeypatch: pytest.MonkeyPatch) -> None:
    namespace = vars(settings_package)
    monkeypatch.setitem(namespace, "uvicorn_settings", None)
    importlib.reload(settings_package)
    assert "uvicorn_settings" not in namespace


def test_the_package_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = settings_package.nothing  # type: ignore[attr-defined]
