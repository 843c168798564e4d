"""The page: its files are in ``docling_serve/ui``, built by ``make ui`` from ``ui/source`` there.
``ui/samples`` are the documents that the page offers for trying it out.

Assets have a hash of their content in their name, so they may be cached forever, while the page
itself is revalidated each time (upstream B17).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path, PurePath

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from docling_serve.api.docs_pages import PAGE

_TYPES = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain"}
_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}
_POLICY = (
    # Results are shown in the page: nothing in them may run, and nothing loads from elsewhere.
    # The HTML preview is a frame that inherits this; pictures in results are data URLs.
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; frame-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'self'"
)
_PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def make_router() -> APIRouter:
    """The page, its assets, and the routes to it."""
    router = APIRouter(include_in_schema=False)
    assets = _assets()
    page = _page(assets)
    samples = _samples()

    @router.api_route("/", methods=PAGE)
    async def root() -> RedirectResponse:
        return RedirectResponse("ui/", 307)

    @router.api_route("/ui", methods=PAGE)
    async def without_slash(request: Request) -> RedirectResponse:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/ui/", 307)

    @router.api_route("/ui/", methods=PAGE)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers=_PAGE_HEADERS)

    @router.api_route("/ui/assets/{name}", methods=PAGE)
    async def asset(name: str) -> Response:
        if name not in assets:
            raise HTTPException(404, "Not Found")
        media_type = _TYPES[PurePath(name).suffix]
        headers = {**_FOR_EVER, "X-Content-Type-Options": "nosniff"}
        return Response(assets[name][1], media_type=media_type, headers=headers)

    @router.api_route("/ui/samples/{name}", methods=PAGE)
    async def sample(name: str) -> FileResponse:
        if name not in samples:
            raise HTTPException(404, "Not Found")
        # A download: a browser that is sent here must not show the HTML sample as a page of ours.
        headers = {"X-Content-Type-Options": "nosniff"}
        return FileResponse(
            samples[name], media_type="application/octet-stream", filename=name, headers=headers
        )

    return router


def _samples() -> dict[str, Path]:
    """The documents for trying the page out, by name."""
    folder = Path(str(files("docling_serve").joinpath("ui").joinpath("samples")))
    return {path.name: path for path in folder.iterdir()}


def _assets() -> dict[str, tuple[str, bytes]]:
    """Maps each hashed name to the name of the file and its content."""
    found = {}
    for file in files("docling_serve").joinpath("ui").iterdir():
        path = PurePath(file.name)
        if path.suffix in _TYPES:
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:16]
            found[f"{path.stem}.{digest}{path.suffix}"] = (path.name, content)
    return found


def _page(assets: Mapping[str, tuple[str, bytes]]) -> str:
    text = files("docling_serve").joinpath("ui").joinpath("index.html").read_text(encoding="utf-8")
    for hashed, (name, _) in assets.items():
        text = text.replace(f"{{{name}}}", f"assets/{hashed}")
    return text
