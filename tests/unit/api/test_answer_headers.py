"""What stands between server and client is told to keep nothing and to guess nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.rest_server import rest_server

UPLOAD = [("files", ("a.md", b"# T"))]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/convert/file", 200),
        ("GET", "/v1/result/none", 404),
        ("GET", "/v1/tasks", 200),
        ("POST", "/v1/convert/source", 422),
    ],
)
async def test_answers_of_the_api_are_not_kept(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    async with rest_server(tmp_path, eng_ray_tenant_id_header="X-Customer") as server:
        files = UPLOAD if path.endswith("/file") else None
        origin = {"Origin": "https://elsewhere.example"}
        reply = await server.client.request(method, path, files=files, headers=origin)
        below = await server.client.request(method, f"/root{path}", files=files)
    assert reply.status_code == status
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    varies = {name.strip() for name in reply.headers["vary"].split(",")}
    assert varies >= {"X-Api-Key", "Authorization", "X-Customer"}
    assert below.status_code == 404


async def test_so_is_a_refusal_before_any_route(tmp_path: Path) -> None:
    async with rest_server(tmp_path, api_key="secret") as server:
        reply = await server.client.post("/v1/convert/file", files=UPLOAD)
    assert reply.status_code == 401
    assert reply.headers["cache-control"] == "no-store"


async def test_pages_may_be_kept(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        reply = await server.client.get("/favicon.ico")
    assert reply.headers["cache-control"] == "max-age=86400"
    assert reply.headers["x-content-type-options"] == "nosniff"
