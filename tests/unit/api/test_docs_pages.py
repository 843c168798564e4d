"""The documentation pages: which there are, what they load, and that they need no other network."""

from __future__ import annotations

import gzip
import re
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import pytest

from docling_serve.api.docs_pages import ASSETS
from tests.helpers.rest_server import RestServer, rest_server

PAGES = ["/swagger", "/docs", "/scalar"]


async def read(server: RestServer, path: str) -> str:
    reply = await server.client.get(path)
    assert reply.status_code == 200, path
    assert reply.headers["content-type"].startswith("text/html")
    return reply.text


async def test_pages_name_the_document_and_their_tool(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        pages = [await read(server, path) for path in PAGES]
        assert (await server.client.get("/redoc")).status_code == 404
    for page, tool in zip(pages, ("swagger", "redoc", "scalar"), strict=True):
        assert f'data-tool="{tool}" data-document="/openapi.json"' in page


async def test_without_the_documentation_nothing_of_it_is_there(tmp_path: Path) -> None:
    async with rest_server(tmp_path, enable_api_docs=False) as server:
        for path in [*PAGES, "/openapi.json", "/docs/assets/start.js"]:
            reply = await server.client.get(path)
            assert (reply.status_code, reply.json()) == (404, {"detail": "Not Found"}), path


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_loads_only_what_is_here(tmp_path: Path, page: str) -> None:
    async with rest_server(tmp_path) as server:
        text = await read(server, page)
        loaded = re.findall(r'(?:src|href)="([^"]+)"', text)
        assert len(loaded) >= 3
        for path in loaded:
            assert path.startswith("/"), path
            assert (await server.client.get(path)).status_code == 200, path
        assert (await server.client.get("/docs/assets/other.js")).status_code == 404


@pytest.mark.parametrize("page", PAGES)
async def test_a_policy_allows_no_other_host_and_no_script_in_the_page(
    tmp_path: Path, page: str
) -> None:
    async with rest_server(tmp_path) as server:
        policy = (await server.client.get(page)).headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    assert "http" not in policy
    assert "unsafe-eval" not in policy


@pytest.mark.parametrize("accepted", ["gzip", "identity"])
async def test_assets_are_sent_as_the_client_reads_them(tmp_path: Path, accepted: str) -> None:
    async with rest_server(tmp_path) as server:
        headers = {"Accept-Encoding": accepted}
        reply = await server.client.get("/docs/assets/redoc.standalone.js", headers=headers)
    assert reply.headers.get("content-encoding") == (accepted if accepted == "gzip" else None)
    assert "Accept-Encoding" in reply.headers["vary"]
    assert "Redoc" in reply.text


def test_vendored_files_are_those_that_are_listed() -> None:
    folder = files("docling_serve.api").joinpath("vendored")
    listed = re.findall(
        r"^\| `(\S+)\.gz` .* `(\w{64})` \|$", folder.joinpath("README.md").read_text(), re.M
    )
    sums = {
        file.name.removesuffix(".gz"): sha256(gzip.decompress(file.read_bytes())).hexdigest()
        for file in folder.iterdir()
        if file.name.endswith(".gz")
    }
    assert dict(listed) == sums
    assert {*sums, "start.js"} == set(ASSETS)


async def test_a_file_of_the_operator_takes_the_place_of_ours(tmp_path: Path) -> None:
    (tmp_path / "scalar.js").write_text("here")
    async with rest_server(tmp_path / "tasks", static_path=tmp_path) as server:
        assert '"/static/scalar.js"' in await read(server, "/scalar")
        assert '"/docs/assets/redoc.standalone.js"' in await read(server, "/docs")
        assert (await server.client.get("/static/scalar.js")).text == "here"


async def test_a_missing_folder_is_no_reason_not_to_start(tmp_path: Path) -> None:
    async with rest_server(tmp_path, static_path=tmp_path / "nowhere") as server:
        assert '"/docs/assets/scalar.js"' in await read(server, "/scalar")


async def test_behind_a_proxy_paths_keep_their_prefix(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        server.app.root_path = '/docling"></script>'
        scalar = await read(server, "/scalar")
        assert 'data-document="/docling&quot;&gt;&lt;/script&gt;/openapi.json"' in scalar
        assert scalar.count("</script>") == 2
        document = await server.client.get("/openapi.json")
        assert document.json()["servers"] == [{"url": '/docling"></script>'}]


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
