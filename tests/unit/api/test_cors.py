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


@pytest.mark.parametrize("sent", [{}, {"X-Api-Key": "k"}, {"Authorization": "Bearer k"}], ids=str)
async def test_any_page_may_ask_for_credentials_where_there_are_none(
    tmp_path: Path, sent: dict[str, str]
) -> None:
    """``fetch`` with ``credentials: 'include'`` needs both headers, whatever the browser sends."""
    reply = await ask(tmp_path, "GET", ["*"], **sent)

    assert reply.headers["access-control-allow-origin"] == PAGE
    assert reply.headers["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize("sent", [{"Cookie": "a=b"}, {"Authorization": "Basic Yjpi"}], ids=str)
async def test_no_page_reads_what_was_asked_in_its_visitors_name(
    tmp_path: Path, sent: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    reply = await ask(tmp_path, "GET", ["*"], **sent)

    assert reply.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in reply.headers
    assert f"a page of '{PAGE}' sends cookies" in caplog.text
    assert "DOCLING_SERVE_CORS_ORIGINS" in caplog.text


async def test_a_page_of_the_list_may_send_credentials(tmp_path: Path) -> None:
    reply = await ask(tmp_path, "GET", [PAGE], Cookie="a=b")

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
