"""Settings that somebody has set for nothing."""

from __future__ import annotations

from typing import Any

import pytest

from docling_serve.settings import DoclingServeSettings
from docling_serve.settings.no_effect import _RULES, settings_without_effect

RQ = {"use_subprocess_for_ocr": True, "eng_kind": "rq", "eng_rq_redis_url": "redis://redis/"}
RAY = {"eng_kind": "ray", "eng_ray_redis_url": "redis://redis/", "eng_ray_address": "auto"}
ON = {"use_subprocess_for_ocr": True}
S3 = {"artifact_storage_enabled": True}

CASES: list[tuple[dict[str, Any], set[str]]] = [
    ({"max_num_pages": 3, "eng_loc_num_workers": 4}, set()),
    ({"sync_poll_interval": 1, "api_host": "x"}, {"sync_poll_interval", "api_host"}),
    (
        {"eng_rq_queue_name": "a", "eng_ray_log_level": "INFO"},
        {"eng_rq_queue_name", "eng_ray_log_level"},
    ),
    ({**RQ, "eng_rq_queue_name": "a", "subprocess_retries": 1}, set()),
    (
        {**RQ, "eng_loc_num_workers": 4, "subprocess_max_workers": 2},
        {"eng_loc_num_workers", "subprocess_max_workers"},
    ),
    ({**RQ, "eng_rq_zombie_reaper_interval": 3.0}, {"eng_rq_zombie_reaper_interval"}),
    ({**RAY, "eng_ray_log_level": "INFO", "subprocess_retries": 1}, {"subprocess_retries"}),
    (
        {**RAY, **ON, "subprocess_retries": 1, "subprocess_max_workers": 2},
        {"subprocess_max_workers"},
    ),
    (
        {**RAY, "eng_ray_min_actors": 2, "eng_ray_coordinator_min_actors": 2},
        {"eng_ray_coordinator_min_actors"},
    ),
    ({"use_subprocess_for_ocr": False, "subprocess_retries": 1}, {"subprocess_retries"}),
    ({"use_subprocess_for_ocr": True, "subprocess_retries": 1}, set()),
    ({"use_subprocess_for_ocr": "auto", "subprocess_retries": 1, "eng_loc_num_workers": 1}, set()),
    ({"use_subprocess_for_ocr": True, "load_models_at_boot": True}, {"load_models_at_boot"}),
    ({"use_subprocess_for_ocr": False, "free_vram_on_idle": True}, set()),
    ({"unload_ollama_model": "llama"}, {"unload_ollama_model"}),
    ({"artifact_storage_bucket": "b"}, {"artifact_storage_bucket"}),
    ({**S3, "artifact_storage_bucket": "b"}, set()),
    ({**S3, "artifact_storage_azure_blob_prefix": "p"}, {"artifact_storage_azure_blob_prefix"}),
    ({"single_use_results": False, "result_removal_delay": 3}, {"result_removal_delay"}),
    ({"otel_enable_metrics": False, "metrics_port": 9}, {"metrics_port"}),
]


@pytest.mark.parametrize(("given", "useless"), CASES, ids=lambda names: "+".join(sorted(names)))
def test_what_has_no_effect_is_told(given: dict[str, Any], useless: set[str]) -> None:
    settings = DoclingServeSettings(**given)

    assert {found.name for found in settings_without_effect(settings, set(given))} == useless


def test_defaults_are_not_told() -> None:
    assert list(settings_without_effect(DoclingServeSettings(), set())) == []


def test_the_variable_and_the_reason_are_named() -> None:
    settings = DoclingServeSettings(sync_poll_interval=1)

    (found,) = settings_without_effect(settings, {"sync_poll_interval"})

    assert str(found) == (
        "DOCLING_SERVE_SYNC_POLL_INTERVAL has no effect: an answer comes when its task ends."
    )


def test_the_rules_are_about_settings_that_exist() -> None:
    named = {name for rule in _RULES for name in rule.names}

    assert named <= set(DoclingServeSettings.model_fields)
