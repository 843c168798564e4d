"""How much of a body is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import httpx
import pytest

from tests.helpers.rest_server import rest_server

FORM = {"Content-Type": "multipart/form-data; boundary=b"}
JSON = {"Content-Type": "application/json"}
LIMITS = {"max_upload_size": 1000, "max_json_size": 100}


class Body:
    """Pieces that come one by one, and how many of them were taken."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.taken += 1
            yield piece


@pytest.mark.parametrize(("headers", "limit"), [(FORM, 1000), (JSON, 100)])
async def test_what_is_announced_as_too_large_is_not_read(
    tmp_path: Path, headers: dict[str, str], limit: int
) -> None:
    body = Body([b"x" * 10])
    async with rest_server(tmp_path, **LIMITS) as server:
        reply = await server.client.post(
            "/v1/convert/file",
            content=body,
            headers={**headers, "Content-Length": str(limit + 1)},
        )
    assert reply.status_code == 413
    assert f"more than {limit} bytes" in reply.json()["detail"]
    assert reply.headers["connection"] == "close"
    assert body.taken == 0


@pytest.mark.parametrize(
    ("path", "headers", "limit"),
    [("/v1/convert/file", FORM, 1000), ("/v1/convert/source", JSON, 100)],
)
async def test_what_comes_unannounced_is_read_up_to_the_limit(
    tmp_path: Path, path: str, headers: dict[str, str], limit: int
) -> None:
    start = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    body = Body([start if headers is FORM else b"", *[b"x" * (limit // 2)] * 50])
    async with rest_server(tmp_path, **LIMITS) as server:
        reply = await server.client.post(path, content=body, headers=headers)
        tasks = (await server.client.get("/v1/tasks")).json()["tasks"]

    assert reply.status_code == 413
    assert reply.headers["connection"] == "close"
    assert body.taken <= 4
    assert tasks == []


async def test_at_the_limit_a_body_is_taken(tmp_path: Path) -> None:
    request = httpx.Request("POST", "http://x", files={"files": ("a.md", b"# T")})
    size = len(request.read())
    for limit, status in ((size, 200), (size - 1, 413)):
        async with rest_server(tmp_path / str(limit), max_upload_size=limit) as server:
            reply = await server.client.post(
                "/v1/convert/file/async", content=request.content, headers=request.headers
            )
            assert reply.status_code == status


async def test_without_limits_all_is_taken(tmp_path: Path) -> None:
    async with rest_server(tmp_path, max_upload_size=0, max_json_size=0) as server:
        reply = await server.client.post(
            "/v1/convert/file/async", files={"files": ("a.md", b"x" * 5_000_000)}
        )
    assert reply.status_code == 200


async def test_of_strangers_nothing_is_read(tmp_path: Path) -> None:
    body = Body([b"x" * 10])
    async with rest_server(tmp_path, api_key="secret") as server:
        reply = await server.client.post("/v1/convert/file", content=body, headers=FORM)

    assert (reply.status_code, reply.json()) == (401, {"detail": "Unauthorized"})
    assert body.taken == 0
