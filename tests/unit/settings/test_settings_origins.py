"""Where values come from, as told to an operator."""

from __future__ import annotations

from pathlib import Path

import pytest

from docling_serve.settings import DoclingServeSettings, UvicornSettings
from docling_serve.settings.origins import MASK, EffectiveSetting, effective_settings


def told(name: str) -> EffectiveSetting:
    settings = effective_settings(DoclingServeSettings())
    return next(setting for setting in settings if setting.name == name)


@pytest.fixture
def config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config file that is in force."""
    path = tmp_path / "server.yaml"
    monkeypatch.setenv("DOCLING_SERVE_CONFIG_FILE", str(path))
    path.write_text("max_num_pages: 3\n")
    return path


def test_a_default_has_no_origin() -> None:
    assert told("max_sync_wait").origin == ""
    assert not told("max_sync_wait").is_set


def test_the_strongest_source_is_named(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (told("max_num_pages").value, told("max_num_pages").origin) == (3, str(config_file))

    Path(".env").write_text("DOCLING_SERVE_MAX_NUM_PAGES=4\n")
    assert (told("max_num_pages").value, told("max_num_pages").origin) == (
        4,
        ".env: DOCLING_SERVE_MAX_NUM_PAGES",
    )

    monkeypatch.setenv("docling_serve_max_num_pages", "5")
    assert (told("max_num_pages").value, told("max_num_pages").origin) == (
        5,
        "docling_serve_max_num_pages",
    )


def test_an_empty_variable_is_no_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCLING_SERVE_API_KEY", "")

    assert told("api_key").origin == ""


def test_of_several_names_the_one_that_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCLING_SERVE_USE_SUBPROCESS", "false")

    assert told("use_subprocess_for_ocr").origin == "DOCLING_SERVE_USE_SUBPROCESS"


def test_a_secret_shows_only_that_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told("api_key").shown == ""
    monkeypatch.setenv("DOCLING_SERVE_API_KEY", "open sesame")

    assert told("api_key").shown == MASK


def test_the_settings_of_the_http_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVICORN_PORT", "5077")
    Path(".env").write_text("UVICORN_HOST=127.0.0.1\nUVICORN_PORT=1\n")

    found = {s.name: (s.value, s.origin) for s in effective_settings(UvicornSettings())}

    assert found["port"] == (5077, "UVICORN_PORT")
    assert found["host"] == ("127.0.0.1", ".env: UVICORN_HOST")
    assert found["reload"] == (False, "")
