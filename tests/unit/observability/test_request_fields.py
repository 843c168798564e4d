"""Log lines carry what the client of the request asked them to."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docling_serve.observability.logging import JsonFormatter
from tests.helpers.rest_server import RestServer, rest_server


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What the engine logs, as JSON lines."""
    written: list[dict[str, Any]] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(json.loads(JsonFormatter().format(record)))

    logger = logging.getLogger("docling_serve.engines.local.engine")
    listener = Listener()
    level = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    yield written
    logger.removeHandler(listener)
    logger.setLevel(level)


async def submit(server: RestServer, **headers: str) -> None:
    reply = await server.client.post(
        "/v1/convert/file/async", files=[("files", ("a.md", b"x"))], headers=headers
    )
    assert reply.status_code == 200


async def test_headers_with_the_prefix_become_fields(
    tmp_path: Path, lines: list[dict[str, Any]]
) -> None:
    async with rest_server(tmp_path) as server:
        await submit(
            server,
            **{
                "X-Docling-Log-RequestID": "r-1",
                "x-docling-log-team": "blue",
                "X-Docling-Log-Level": "forged",
                "X-Docling-Log-": "nameless",
                "X-Other": "no",
            },
        )
        await submit(server)
    with_fields, without = [line for line in lines if "accepted" in line["message"]]
    assert (with_fields["requestid"], with_fields["team"]) == ("r-1", "blue")
    assert with_fields["level"] == "INFO", "a client cannot overwrite what the server says"
    assert set(with_fields) - set(without) == {"requestid", "team"}


async def test_prefix_is_configured(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    async with rest_server(tmp_path, log_header_prefix="X-Trace-") as server:
        await submit(server, **{"X-Trace-Id": "t" * 1000, "X-Docling-Log-Team": "blue"})
    (line,) = [line for line in lines if "accepted" in line["message"]]
    assert line["id"] == "t" * 256
    assert "team" not in line
