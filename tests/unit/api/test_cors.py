"""Which pages elsewhere may call the API (better than upstream A8)."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.helpers.rest_server import rest_server

PAGE = "https://app.example"


async def ask(folder: Path, method: str, origins: list[str], **headers: str) -> httpx.Response:
    async with rest_server(
        folder, cors_origins=origins, cors_methods=["*"], cors_headers=["*"]
    ) as server:
        return await server.client.request(method, "/health", headers={"Origin": PAGE, **headers})


async def test_any_page_may_call_but_not_in_its_users_name(tmp_path: Path) -> None:
    reply = await ask(tmp_path, "GET", ["*"])

    assert reply.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in reply.headers


async def test_a_page_of_the_list_may_send_credentials(tmp_path: Path) -> None:
    reply = await ask(tmp_path, "GET", [PAGE])

    assert reply.headers["access-control-allow-origin"] == PAGE
    assert reply.headers["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize(
    ("origins", "status"), [(["*"], 200), ([PAGE], 200), (["https://other.example"], 400)]
)
async def test_what_a_browser_asks_first(tmp_path: Path, origins: list[str], status: int) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-Api-Key"}
    reply = await ask(tmp_path, "OPTIONS", origins, **asked)

    assert reply.status_code == status
    if status == 400:
        assert reply.text == "Disallowed CORS origin"
    else:
        assert "POST" in reply.headers["access-control-allow-methods"]
