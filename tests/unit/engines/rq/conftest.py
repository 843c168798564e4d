"""Fixtures of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.rq_engines import (
    JobkitWorker,
    rq_settings,
)


@pytest.fixture
def worker(redis_url: str) -> Iterator[JobkitWorker]:
    with JobkitWorker(redis_url, rq_settings(redis_url)) as worker:
        yield worker
