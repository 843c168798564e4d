"""Redis is looked for before anything else starts."""

from __future__ import annotations

import pytest

from docling_serve.engines.redis.reach import RedisUnreachable, require_redis


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "No Redis is configured"),
        ("http://host/", "is not a Redis URL"),
        ("redis://:secret@127.0.0.1:1/", "Redis at 127.0.0.1:1 cannot be reached"),
        ("unix:///nowhere.sock?password=secret", "Redis at /nowhere.sock cannot be reached"),
    ],
)
def test_an_unreachable_redis_is_explained(url: str, says: str) -> None:
    with pytest.raises(RedisUnreachable, match=says) as caught:
        require_redis(url)
    assert "DOCLING_SERVE_ENG_RQ_REDIS_URL" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_reachable_redis_is_enough(redis_url: str) -> None:
    require_redis(redis_url)
