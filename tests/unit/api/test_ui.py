"""The way to the page and its assets; a browser uses it in tests/integration."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import httpx
import pytest

from tests.helpers.rest_server import rest_server

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "docling_serve" / "ui" / "source"
SAMPLES = SOURCES.parent / "samples"


async def ask(
    folder: Path, path: str, *, root_path: str = "", **settings: object
) -> httpx.Response:
    async with rest_server(folder, **settings) as server:
        transport = httpx.ASGITransport(app=server.app, root_path=root_path)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.get(root_path + path)


@pytest.mark.parametrize(("path", "to"), [("/", "ui/"), ("/ui", "/ui/")])
async def test_the_ways_to_the_page(tmp_path: Path, path: str, to: str) -> None:
    """Upstream B17."""
    reply = await ask(tmp_path, path, enable_ui=True)

    assert (reply.status_code, reply.headers["location"]) == (307, to)


async def test_the_way_under_a_root_path(tmp_path: Path) -> None:
    reply = await ask(tmp_path, "/ui", root_path="/docs-service", enable_ui=True)

    assert reply.headers["location"] == "/docs-service/ui/"


async def test_the_page_is_asked_for_each_time_and_its_assets_once(tmp_path: Path) -> None:
    page = await ask(tmp_path, "/ui/", enable_ui=True)
    names = re.findall(r'(?:src|href)="(assets/[^"]+)"', page.text)

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-cache"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "{" not in page.text, "every placeholder was filled"
    assert len(names) == 2
    for name in names:
        asset = await ask(tmp_path, f"/ui/{name}", enable_ui=True)
        assert asset.status_code == 200
        assert "immutable" in asset.headers["cache-control"]
        assert re.fullmatch(r"assets/\w+\.[0-9a-f]{16}\.(js|css)", name)


async def test_the_samples_are_the_bundled_documents(tmp_path: Path) -> None:
    offered = re.findall(r'^  \["([^"]+)", ', (SOURCES / "samples.js").read_text(), re.MULTILINE)
    assert sorted(offered) == sorted(path.name for path in SAMPLES.iterdir())
    for name in offered:
        reply = await ask(tmp_path, f"/ui/samples/{name}", enable_ui=True)
        assert reply.content == (ROOT / "examples" / "documents" / name).read_bytes()
        assert reply.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    "path",
    [
        "/ui/assets/app.js",
        "/ui/app.js",
        "/ui/index.html",
        "/ui/samples/",
        "/ui/samples/..%2Fapp.js",
        "/ui/samples/notes.md",
    ],
)
async def test_nothing_else_is_there(tmp_path: Path, path: str) -> None:
    assert (await ask(tmp_path, path, enable_ui=True)).status_code == 404


@pytest.mark.parametrize("path", ["/", "/ui", "/ui/"])
async def test_a_closed_page_is_not_there(tmp_path: Path, path: str) -> None:
    reply = await ask(tmp_path, path, enable_ui=False)

    assert (reply.status_code, reply.json()) == (404, {"detail": "Not Found"})


def test_the_bundle_is_built_from_these_sources() -> None:
    """``make ui`` writes the digest of the sources into what it builds."""
    digest = hashlib.sha256()
    kinds = {".js", ".jsx", ".mjs", ".css", ".json"}
    for path in sorted(path for path in SOURCES.iterdir() if path.suffix in kinds):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    bundle = (SOURCES.parent / "app.js").read_text(encoding="utf-8")

    assert f"sources {digest.hexdigest()};" in bundle[:200], "run: make ui"


def test_the_page_is_small_and_has_the_licences_of_its_libraries() -> None:
    packaged = [path for path in SOURCES.parent.iterdir() if path.is_file()]
    wanted = json.loads((SOURCES / "package.json").read_text())["dependencies"]
    licences = (SOURCES.parent / "licences.txt").read_text(encoding="utf-8")
    locked = (SOURCES / "package-lock.json").read_text()

    assert sum(path.stat().st_size for path in packaged) < 400_000
    assert [name for name in wanted if f"{name} {wanted[name]} (" not in licences] == []
    assert "resolved" not in locked
    assert locked.count('"integrity"') >= len(wanted)


async def test_the_policy_is_strict(tmp_path: Path) -> None:
    page = await ask(tmp_path, "/ui/", enable_ui=True)

    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self';" in policy
    assert "<style" not in page.text


async def test_the_page_names_nobody_else(tmp_path: Path) -> None:
    page = await ask(tmp_path, "/ui/", enable_ui=True)

    assert re.findall(r'(?:src|href)="(?:https?:)?//', page.text) == []
