"""Requests of a client that traces, as a collector hears of them. Ray's gateway: test_ray."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import StartServer
from tests.helpers.api import upload
from tests.helpers.eventually import eventually
from tests.helpers.otlp_receiver import OtlpReceiver, Span, otlp_receiver
from tests.helpers.redis_server import RedisServer
from tests.helpers.server import ORPHAN_LIMIT_S, SUBPROCESS_MODE

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of an engine, with what it needs."""
    if request.param == "local":
        return {}
    redis: RedisServer = request.getfixturevalue("redis_server")
    return {"DOCLING_SERVE_ENG_KIND": "rq", "DOCLING_SERVE_ENG_RQ_REDIS_URL": redis.url}


@pytest.fixture
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.mark.parametrize("engine", ["local", "rq"], indirect=True)
def test_a_request_is_one_span_of_its_clients_trace(
    engine: dict[str, str], receiver: OtlpReceiver, start_server: StartServer
) -> None:
    server = start_server(SUBPROCESS_MODE | receiver.settings | engine, probe="/health")
    server.api.submit(upload("notes.md"), traceparent=f"00-{TRACE}-{CLIENT}-01")

    eventually(lambda: receiver.spans, within_s=ORPHAN_LIMIT_S, what="the span is told")
    server.stop()
    assert receiver.spans == [Span("traced", "POST /v1/convert/file/async", TRACE, CLIENT)]
