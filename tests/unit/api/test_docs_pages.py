"""The documentation pages: which there are, what they load, and from where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docling_serve.api.docs_pages import ASSETS
from tests.helpers.rest_server import RestServer, rest_server

PAGES = ["/swagger", "/docs", "/scalar"]


def addresses(page: str) -> list[str]:
    """What a page loads from elsewhere."""
    return re.findall(r'https?://[^"\' ]+', page)


async def read(server: RestServer, path: str) -> str:
    reply = await server.client.get(path)
    assert reply.status_code == 200, path
    assert reply.headers["content-type"].startswith("text/html")
    return reply.text


async def test_pages_name_the_document_and_their_tool(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        swagger, redoc, scalar = [await read(server, path) for path in PAGES]
        assert (await server.client.get("/redoc")).status_code == 404
    assert all("/openapi.json" in page for page in (swagger, redoc, scalar))
    assert "SwaggerUIBundle(" in swagger
    assert "<redoc " in redoc
    assert "Scalar.createApiReference(" in scalar


async def test_without_the_documentation_nothing_of_it_is_there(tmp_path: Path) -> None:
    async with rest_server(tmp_path, enable_api_docs=False) as server:
        for path in [*PAGES, "/openapi.json"]:
            reply = await server.client.get(path)
            assert (reply.status_code, reply.json()) == (404, {"detail": "Not Found"}), path


async def test_scripts_come_from_the_network_unless_they_are_here(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        pages = "".join([await read(server, path) for path in PAGES])
    assert set(ASSETS.values()) <= set(addresses(pages))


@pytest.mark.parametrize("page", PAGES)
async def test_with_local_scripts_a_page_asks_nobody_else(tmp_path: Path, page: str) -> None:
    static = tmp_path / "static"
    static.mkdir()
    for name in ASSETS:
        (static / name).write_text(f"/* {name} */")
    async with rest_server(tmp_path / "tasks", static_path=static) as server:
        text = await read(server, page)
        assert addresses(text) == []
        for path in re.findall(r"/static/[\w.-]+", text):
            assert (await server.client.get(path)).text == f"/* {Path(path).name} */"


async def test_of_a_folder_with_some_scripts_those_are_used(tmp_path: Path) -> None:
    (tmp_path / "scalar.js").write_text("here")
    async with rest_server(tmp_path / "tasks", static_path=tmp_path) as server:
        assert "/static/scalar.js" in await read(server, "/scalar")
        assert ASSETS["redoc.standalone.js"] in await read(server, "/docs")


async def test_a_missing_folder_is_no_reason_not_to_start(tmp_path: Path) -> None:
    async with rest_server(tmp_path, static_path=tmp_path / "nowhere") as server:
        assert ASSETS["scalar.js"] in await read(server, "/scalar")


async def test_behind_a_proxy_paths_keep_their_prefix(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        server.app.root_path = "/docling</script>"
        scalar = await read(server, "/scalar")
        assert "/docling\\u003c/script>/openapi.json" in scalar
        assert scalar.count("</script>") == 2
        document = await server.client.get("/openapi.json")
        assert document.json()["servers"] == [{"url": "/docling</script>"}]


async def test_icon_is_answered_here(tmp_path: Path) -> None:
    async with rest_server(tmp_path, enable_api_docs=False) as server:
        reply = await server.client.get("/favicon.ico")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "image/svg+xml")
    assert reply.text.startswith("<svg ")


async def test_clients_may_look_whether_a_page_is_there(tmp_path: Path) -> None:
    """RAGFlow asks so whether the server is there."""
    async with rest_server(tmp_path, enable_ui=True) as server:
        for path in [*PAGES, "/openapi.json", "/docs/oauth2-redirect", "/favicon.ico", "/ui/"]:
            assert (await server.client.head(path)).status_code == 200, path
        assert (await server.client.head("/health")).status_code == 405
    async with rest_server(tmp_path / "closed", enable_api_docs=False) as server:
        assert (await server.client.head("/docs")).status_code == 404
