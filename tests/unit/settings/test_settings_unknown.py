"""Names with our prefix that no setting has."""

from pathlib import Path

import pytest

from docling_serve.settings import (
    DoclingServeSettings,
    UnknownSetting,
    env_names,
    find_unknown_settings,
    unknown_config_keys,
    unknown_settings,
)


def test_the_nearest_name_is_suggested() -> None:
    assert unknown_settings({"DOCLING_SERVE_MAX_SYNC_WAITS": "1"}) == [
        UnknownSetting("DOCLING_SERVE_MAX_SYNC_WAITS", "DOCLING_SERVE_MAX_SYNC_WAIT")
    ]
    assert unknown_settings({"docling_serve_use_subproces": "1"}) == [
        UnknownSetting("docling_serve_use_subproces", "DOCLING_SERVE_USE_SUBPROCESS")
    ]


def test_nothing_is_suggested_for_what_is_like_nothing() -> None:
    assert unknown_settings({"DOCLING_SERVE_QQQQ": "1"}) == [
        UnknownSetting("DOCLING_SERVE_QQQQ", None)
    ]


def test_known_and_foreign_names_are_left_out() -> None:
    known = {name: "1" for field in DoclingServeSettings.model_fields for name in env_names(field)}
    foreign = {"UVICORN_LOG_LEVEL": "info", "DOCLING_NUM_THREADS": "2", "PATH": "/bin"}
    assert unknown_settings(known | foreign | {"docling_serve_api_key": "k"}) == []


def test_variables_of_kubernetes_services_are_left_out() -> None:
    links = {
        "DOCLING_SERVE_SERVICE_HOST": "10.0.0.1",
        "DOCLING_SERVE_SERVICE_PORT": "5001",
        "DOCLING_SERVE_SERVICE_PORT_HTTP": "5001",
        "DOCLING_SERVE_PORT": "tcp://10.0.0.1:5001",
        "DOCLING_SERVE_PORT_5001_TCP": "tcp://10.0.0.1:5001",
        "DOCLING_SERVE_PORT_5001_TCP_ADDR": "10.0.0.1",
        "DOCLING_SERVE_UI_PORT": "tcp://10.0.0.2:80",
        "DOCLING_SERVE_UI_SERVICE_HOST": "10.0.0.2",
    }
    assert unknown_settings(links) == []
    assert unknown_settings({"DOCLING_SERVE_PORT": "5001"}) != []


def test_keys_of_a_config_file() -> None:
    keys = ["api_key", "use_subprocess", "max_file_sise", "qqqq"]
    assert unknown_config_keys(keys) == [
        UnknownSetting("max_file_sise", "max_file_size", "config file"),
        UnknownSetting("qqqq", None, "config file"),
    ]


def test_all_sources_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("DOCLING_SERVE_API_KAY=k\nDOCLING_SERVE_API_KEY=k\nOTHER=1\n")
    Path("s.yaml").write_text("enable_uis: true\nenable_ui: true\n")
    monkeypatch.setenv("DOCLING_SERVE_CONFIG_FILE", "s.yaml")
    found = find_unknown_settings(
        DoclingServeSettings(), {"DOCLING_SERVE_LOG_LEVELS": "INFO", "HOME": "/"}
    )
    assert [str(unknown) for unknown in found] == [
        "unknown setting DOCLING_SERVE_LOG_LEVELS in environment has no effect;"
        " did you mean DOCLING_SERVE_LOG_LEVEL?",
        "unknown setting DOCLING_SERVE_API_KAY in .env has no effect;"
        " did you mean DOCLING_SERVE_API_KEY?",
        "unknown setting enable_uis in config file has no effect; did you mean enable_ui?",
    ]


def test_without_any_file() -> None:
    assert find_unknown_settings(DoclingServeSettings(), {}) == []
    assert str(UnknownSetting("a", None)) == "unknown setting a in environment has no effect"
