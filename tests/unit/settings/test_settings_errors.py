"""A refused value is explained by the name of its variable."""

from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from docling_serve.settings import (
    DoclingServeSettings,
    UvicornSettings,
    describe_settings_error,
    env_names,
)


def explain(cls: type[BaseSettings], **values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        cls(**values)
    return describe_settings_error(caught.value)


def test_number() -> None:
    assert explain(DoclingServeSettings, max_sync_wait="soon") == (
        "DOCLING_SERVE_MAX_SYNC_WAIT (config file: max_sync_wait): must be a whole number,"
        " got 'soon'"
    )


def test_uvicorn_has_no_config_file_key() -> None:
    assert explain(UvicornSettings, port="x") == "UVICORN_PORT: must be a whole number, got 'x'"


def test_all_names_of_a_setting_are_given() -> None:
    assert explain(DoclingServeSettings, use_subprocess="maybe") == (
        "DOCLING_SERVE_USE_SUBPROCESS or DOCLING_SERVE_USE_SUBPROCESS_FOR_OCR (config file:"
        " use_subprocess or use_subprocess_for_ocr): must be true, false or auto (also 1/0,"
        " yes/no, on/off), got 'maybe'"
    )


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("enable_ui", "perhaps", "must be true or false"),
        ("eng_kind", "kafka", "must be 'local', 'rq' or 'ray'"),
        ("log_level", "ERROR", "must be 'WARNING', 'INFO' or 'DEBUG'"),
        ("subprocess_start_method", "fork", "must be 'spawn' or 'forkserver'"),
        ("subprocess_max_workers", 0, "must be greater than or equal to 1"),
        ("max_images_scale", "big", "must be a number"),
        ("allowed_ocr_kinds", ["a", 3], "[1]: must be text"),
    ],
)
def test_what_is_allowed_is_said(field: str, value: Any, words: str) -> None:
    described = explain(DoclingServeSettings, **{field: value})
    assert described.startswith(env_names(field)[0])
    assert words in described


def test_one_line_per_problem() -> None:
    lines = explain(DoclingServeSettings, max_sync_wait="a", enable_ui="b").splitlines()
    assert {line.split()[0] for line in lines} == {
        "DOCLING_SERVE_MAX_SYNC_WAIT",
        "DOCLING_SERVE_ENABLE_UI",
    }
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("api_key", 1234567),
        ("eng_rq_redis_url", ["1234567"]),
        ("custom_vlm_presets", '{"a": {"headers": {"Authorization": "1234567"'),
        ("eng_ray_runtime_env", '{"env_vars": 1234567'),
    ],
)
def test_secret_values_are_never_shown(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        DoclingServeSettings(**{field: value})
    described = describe_settings_error(caught.value)
    assert described.startswith(env_names(field)[0])
    assert "1234567" not in described + str(caught.value)


def test_long_values_are_cut() -> None:
    assert len(explain(DoclingServeSettings, max_sync_wait="x" * 10_000)) < 300


def test_names_of_an_unknown_setting() -> None:
    with pytest.raises(KeyError):
        env_names("nothing")
