"""The long form of ``tests/integration/test_made_up_requests.py``: schemathesis tries the edges of
every parameter, then makes up hundreds of requests to each route. For ``--soak`` alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, settings

from tests.conftest import KEEP_WORKERS, StartServer
from tests.helpers.fuzzing import answer_is_no_fault, our_schema
from tests.helpers.server import SUBPROCESS_MODE, RunningServer

schema = our_schema()


@pytest.fixture(scope="module")
def fuzzed(serve: StartServer) -> Iterator[RunningServer]:
    limits = {
        "DOCLING_SERVE_MAX_SYNC_WAIT": "1",
        "DOCLING_SERVE_MAX_DOCUMENT_TIMEOUT": "5",
        "DOCLING_SERVE_ENABLE_MANAGEMENT_ENDPOINTS": "true",
    }
    with serve(SUBPROCESS_MODE | KEEP_WORKERS | limits) as server:
        yield server


@schema.parametrize()
@settings(
    max_examples=200,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@pytest.mark.timeout(1800)
def test_an_answer_is_never_a_fault(case: Any, fuzzed: RunningServer) -> None:
    with requests.Session() as session:
        session.trust_env = False
        answer_is_no_fault(case, fuzzed.url, session)
    assert fuzzed.running


def test_nothing_was_left_to_the_framework(fuzzed: RunningServer) -> None:
    assert "Exception in ASGI application" not in fuzzed.log()
