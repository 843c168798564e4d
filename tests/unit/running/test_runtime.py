from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from docling_serve.running.runtime import Runtime, log_level, pool_config
from docling_serve.settings import DoclingServeSettings
from docling_serve.subprocess_worker import WorkerPoolConfig, threads_per_worker


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.upper().startswith("DOCLING_SERVE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def settings(**values: Any) -> DoclingServeSettings:
    return DoclingServeSettings(**values)


RQ = {"eng_kind": "rq", "eng_rq_redis_url": "redis://localhost"}


# ---- the mode ------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", [True, False])
def test_the_mode_is_what_the_setting_says(on: bool) -> None:
    runtime = Runtime.decide(settings(use_subprocess_for_ocr=on))

    assert runtime.subprocess_mode is on
    assert f"set to {str(on).lower()}" in runtime.reason


def test_auto_gives_its_reason() -> None:
    runtime = Runtime.decide(settings(use_subprocess_for_ocr="auto"))

    assert runtime.reason.startswith("auto: ")


@pytest.mark.parametrize(
    ("on", "engine", "runs_tasks", "light"),
    [
        (True, {}, True, True),
        (False, {}, True, False),
        (True, RQ, False, True),
        (False, RQ, False, True),
        (True, RQ, True, True),
        (False, RQ, True, False),
    ],
)
def test_a_process_without_conversions_does_without_torch(
    on: bool, engine: dict[str, str], runs_tasks: bool, light: bool
) -> None:
    runtime = Runtime.decide(settings(use_subprocess_for_ocr=on, **engine), runs_tasks=runs_tasks)

    assert runtime.keeps_light is light
    assert (runtime.pool is not None) is (on and runs_tasks)


@pytest.mark.parametrize("limit", ["max_rss", "max_growth", "memory_limit"])
def test_workers_that_are_judged_by_their_memory_keep_none(limit: str) -> None:
    assert pool_config(settings()).worker.keep_freed_memory
    limited = settings(**{f"subprocess_{limit}": "4GB"})
    assert not pool_config(limited).worker.keep_freed_memory


@pytest.mark.parametrize(
    ("on", "frees", "expected"),
    [
        (True, None, True),
        (False, None, False),
        (True, False, False),
        (False, True, True),
    ],
)
def test_models_go_when_nothing_waits(on: bool, frees: bool | None, expected: bool) -> None:
    runtime = Runtime.decide(settings(use_subprocess_for_ocr=on, free_vram_on_idle=frees))

    assert runtime.frees_vram_on_idle is expected


def test_making_it_starts_nothing() -> None:
    before = psutil.Process().children()
    threads = psutil.Process().num_threads()

    Runtime.decide(settings(use_subprocess_for_ocr=True))

    assert psutil.Process().children() == before
    assert psutil.Process().num_threads() == threads


def test_the_pool_is_what_the_settings_say_for_a_process_with_workers() -> None:
    asked = settings(use_subprocess_for_ocr=True, subprocess_max_workers=3)
    pool = Runtime.decide(asked).pool
    assert pool is not None
    assert pool.config.max_workers == 3

    alone = Runtime.decide(
        asked, for_workers=lambda s: s.model_copy(update={"subprocess_max_workers": 1})
    )
    assert alone.pool is not None
    assert alone.pool.config.max_workers == alone.settings.subprocess_max_workers == 1


# ---- the pool's configuration --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "limit", "expected"),
    [
        ("subprocess_max_workers", 3, "max_workers", 3),
        ("subprocess_light_workers", 2, "light_workers", 2),
        ("subprocess_start_method", "forkserver", "start_method", "forkserver"),
        ("subprocess_prewarm", 2, "prewarm", 2),
        ("subprocess_page_fanout", 10, "page_fanout", 10),
        ("subprocess_max_tasks", 7, "max_tasks", 7),
        ("subprocess_max_rss", "4GB", "max_rss_bytes", 4_000_000_000),
        ("subprocess_max_vram", "2GiB", "max_vram_bytes", 2 * 1024**3),
        ("subprocess_max_growth", 5, "max_growth_bytes", 5),
        ("subprocess_memory_limit", 6, "memory_limit_bytes", 6),
        ("subprocess_retries", 4, "retries", 4),
        ("subprocess_stall_timeout", 9.0, "stall_timeout_s", 9.0),
        ("subprocess_start_timeout", 33.0, "start_timeout_s", 33.0),
        ("subprocess_stop_grace", 2.5, "stop_grace_s", 2.5),
    ],
)
def test_a_setting_reaches_the_pool(setting: str, value: Any, limit: str, expected: Any) -> None:
    config = pool_config(settings(**{setting: value}))

    assert getattr(config, limit) == expected
    assert getattr(pool_config(settings()), limit) != expected, "the value is not the default"


def test_nothing_of_the_pool_is_forgotten() -> None:
    """What has no setting has a reason: graces of the ladder that follow ``stop_grace_s``, and
    times that follow from how long a start takes."""
    ours = pool_config(
        settings(
            subprocess_max_workers=3,
            subprocess_light_workers=2,
            subprocess_start_method="forkserver",
            subprocess_prewarm=2,
            subprocess_page_fanout=10,
            subprocess_max_tasks=7,
            subprocess_max_rss=1,
            subprocess_max_vram=1,
            subprocess_max_growth=1,
            subprocess_memory_limit=1,
            subprocess_retries=4,
            subprocess_stall_timeout=9,
            subprocess_start_timeout=33,
            subprocess_stop_grace=2.5,
            free_vram_on_idle=False,
            subprocess_idle_timeout=8,
        )
    )
    default = WorkerPoolConfig()
    same = {name for name in vars(default) if getattr(ours, name) == getattr(default, name)}

    assert same == {
        "term_grace_s",
        "kill_wait_s",
        "spare_timeout_s",
        "rest_after_s",
        "patience_s",
        "start_backoff_s",
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, 0.0),
        ({"subprocess_idle_timeout": 60}, 0.0),
        ({"subprocess_idle_timeout": 60, "free_vram_on_idle": True}, 0.0),
        ({"subprocess_idle_timeout": 60, "free_vram_on_idle": False}, 60.0),
    ],
)
def test_an_idle_worker_stays_only_where_memory_may_be_kept(
    values: dict[str, Any], expected: float
) -> None:
    assert pool_config(settings(**values)).idle_timeout_s == expected


def test_a_worker_knows_what_it_needs_and_no_secret() -> None:
    worker = pool_config(
        settings(
            api_key="s3cret",
            subprocess_max_workers=2,
            subprocess_nice=5,
            subprocess_pass_env="MY_PLUGIN,OTHER",
            log_level="DEBUG",
            log_format="json",
            max_num_pages=11,
        )
    ).worker

    assert worker.threads == threads_per_worker(2)
    assert worker.nice == 5
    assert worker.pass_env == ("MY_PLUGIN", "OTHER")
    assert (worker.log_level, worker.log_format) == ("DEBUG", "json")
    assert worker.converter_config["max_num_pages"] == 11
    assert "s3cret" not in repr(worker)


@pytest.mark.parametrize(("level", "expected"), [(None, "INFO"), ("WARNING", "WARNING")])
def test_without_a_level_it_is_info(level: str | None, expected: str) -> None:
    assert log_level(settings(log_level=level)) == expected
