"""Which engine the settings choose, and what an rq-worker makes of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from docling_serve import orchestrator_factory as factory
from docling_serve.engines.local.engine import LocalEngine
from docling_serve.engines.redis.reach import RedisUnreachable
from docling_serve.engines.rq.engine import RqEngine
from docling_serve.rq_worker import _as_rq_worker
from docling_serve.settings import AsyncEngine
from tests.helpers.ray_engines import ray_settings, require_ray
from tests.helpers.rest_server import settings_of
from tests.helpers.rq_engines import rq_settings

RQ = {"eng_kind": AsyncEngine.RQ}


@pytest.fixture(autouse=True)
def no_current_engine() -> Iterator[None]:
    yield
    factory.set_current_engine(None)


def test_the_local_engine() -> None:
    assert isinstance(factory.make_engine(settings_of(), factory._no_parts()), LocalEngine)


async def test_the_rq_engine_needs_no_redis_to_be_made() -> None:
    settings = rq_settings("redis://127.0.0.1:1/").model_copy(update=RQ)
    engine = factory.make_engine(settings, factory._no_parts())
    assert isinstance(engine, RqEngine)
    await engine.close()


def test_ray_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(factory.EngineUnavailable, match=r"docling-serve\[ray\]"):
        factory.require_engine(settings_of(eng_kind=AsyncEngine.RAY))


def test_ray_without_redis_is_refused() -> None:
    require_ray()
    with pytest.raises(RedisUnreachable, match="DOCLING_SERVE_ENG_RAY_REDIS_URL"):
        factory.require_engine(ray_settings("redis://127.0.0.1:1/"))


def test_rq_without_redis_is_refused() -> None:
    with pytest.raises(RedisUnreachable):
        factory.require_engine(rq_settings("redis://127.0.0.1:1/").model_copy(update=RQ))


def test_outside_code_gets_the_engine_of_the_server() -> None:
    engine = factory.make_engine(settings_of(), factory._no_parts())
    factory.set_current_engine(engine)
    assert factory.get_async_orchestrator() is engine
    factory.set_current_engine(None)
    assert factory.get_async_orchestrator() is not engine
    assert factory.get_async_orchestrator() is factory.get_async_orchestrator()


def test_an_rq_worker_has_one_process_that_stays_while_the_next_job_is_taken() -> None:
    changed = _as_rq_worker(settings_of(subprocess_max_workers=4))
    assert changed.subprocess_max_workers == 1
    assert 0 < changed.worker_idle_timeout_s() <= 2


def test_an_rq_worker_keeps_models_for_as_long_as_it_is_told() -> None:
    settings = settings_of(free_vram_on_idle=False, subprocess_idle_timeout=600.0)
    assert _as_rq_worker(settings).worker_idle_timeout_s() == 600.0
