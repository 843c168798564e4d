"""Checks that the configured Redis is reachable; imports nothing but its client."""

from __future__ import annotations

import redis

_WITHIN_S = 5.0


class RedisUnreachable(ConnectionError):
    """The configured Redis does not answer."""


def require_redis(url: str, variable: str = "DOCLING_SERVE_ENG_RQ_REDIS_URL") -> None:
    """Connect to Redis once, within seconds; call this before building anything on it.
    ``variable`` is where the address comes from.

    Raises:
        RedisUnreachable: with an explanation that shows no password.
    """
    if not url:
        raise RedisUnreachable(
            f"No Redis is configured: set {variable}, for example to redis://localhost:6379/"
        )
    try:
        connection = redis.Redis.from_url(
            url, socket_connect_timeout=_WITHIN_S, socket_timeout=_WITHIN_S
        )
    except ValueError as exc:
        raise RedisUnreachable(f"{variable} is not a Redis URL: {exc}") from exc
    place = connection.connection_pool.connection_kwargs
    name = place.get("path") or f"{place.get('host', 'localhost')}:{place.get('port', 6379)}"
    try:
        connection.ping()
    except redis.RedisError as exc:
        raise RedisUnreachable(f"Redis at {name} cannot be reached ({variable}): {exc}") from exc
    finally:
        connection.close()
