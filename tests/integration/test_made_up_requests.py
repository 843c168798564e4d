"""A few made-up requests to every route. ``tests/soak`` sends many more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, settings

from tests.conftest import FORKED, KEEP_WORKERS, StartServer
from tests.helpers.api import upload
from tests.helpers.fuzzing import answer_is_no_fault, our_schema
from tests.helpers.server import SUBPROCESS_MODE, RunningServer

schema = our_schema()

FUZZED_WITH = {
    # A made-up document may be one that takes long; it is the answer that counts.
    "DOCLING_SERVE_MAX_SYNC_WAIT": "1",
    "DOCLING_SERVE_ENABLE_MANAGEMENT_ENDPOINTS": "true",
    "DOCLING_SERVE_MAX_DOCUMENT_TIMEOUT": "5",
}


@pytest.fixture(scope="module")
def fuzzed(serve: StartServer) -> Iterator[RunningServer]:
    with serve(SUBPROCESS_MODE | FORKED | KEEP_WORKERS | FUZZED_WITH) as server:
        yield server


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@schema.parametrize()
@settings(
    max_examples=4,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_an_answer_is_never_a_fault(
    case: Any, fuzzed: RunningServer, session: requests.Session
) -> None:
    answer_is_no_fault(case, fuzzed.url, session)
    assert fuzzed.running


def test_afterwards_it_still_works(fuzzed: RunningServer) -> None:
    assert "Exception in ASGI application" not in fuzzed.log()
    task_id = fuzzed.api.submit(upload("notes.md"))
    assert fuzzed.api.poll(task_id, wait_s=60)["task_status"] == "success"
