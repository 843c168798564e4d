"""The metrics of RQ, on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from rq import Queue, SimpleWorker

from docling_serve.engines.rq.metrics import RqCollector
from tests.helpers.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def page(url: str, *names: str) -> list[str]:
    registry = CollectorRegistry()
    collector = RqCollector(url, names)
    registry.register(collector)
    lines = generate_latest(registry).decode().splitlines()
    collector.close()
    return [line for line in lines if not line.startswith("#")]


def test_jobs_are_counted_by_queue_and_state(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        queue = Queue("a", connection=client)
        for _ in range(2):
            queue.enqueue("builtins.len", "abc")

        told = page(redis_server.url, "a", "b")

        assert 'rq_jobs{queue="a",status="queued"} 2.0' in told
        assert 'rq_jobs{queue="a",status="finished"} 0.0' in told
        assert 'rq_jobs{queue="b",status="queued"} 0.0' in told
        queue.empty()


def test_workers_are_told_with_what_they_did(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        queue = Queue("c", connection=client)
        worker = SimpleWorker([queue], connection=client, name="w")
        worker.register_birth()
        worker.set_state("idle")
        SimpleWorker([Queue("others", connection=client)], connection=client).register_birth()

        told = [line for line in page(redis_server.url, "c") if line.startswith("rq_workers")]

        assert 'rq_workers{name="w",queues="c",state="idle"} 1.0' in told
        assert 'rq_workers_success_total{name="w",queues="c"} 0.0' in told
        assert all('name="w"' in line for line in told), "workers of other queues are not ours"


def test_without_redis_there_is_nothing_to_tell() -> None:
    assert page("redis://127.0.0.1:1/", "a") == []
