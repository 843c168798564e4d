"""Pages that show the OpenAPI document: Swagger UI, ReDoc and Scalar, and the icon of all pages.

Their scripts are in ``vendored/``; a file of the same name in ``static_path`` replaces one
(upstream B16). The pages load nothing from other hosts, and their policy allows nothing else.
"""

from __future__ import annotations

import gzip
import html
import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path, PurePath

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.openapi.docs import get_swagger_ui_oauth2_redirect_html
from fastapi.responses import HTMLResponse, Response

#: Clients send HEAD to check that a page is there, and so that the server is up.
PAGE = ["GET", "HEAD"]

_STATIC = "/static"
_ASSETS = "/docs/assets"
_START = "start.js"
#: File names below ``static_path``, each with the media type that it has.
ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
    "scalar.js": "text/javascript",
    _START: "text/javascript",
}
#: What each page loads before it starts.
_TOOLS = {
    "swagger": ("Swagger UI", ["swagger-ui.css", "swagger-ui-bundle.js"]),
    "redoc": ("ReDoc", ["redoc.standalone.js"]),
    "scalar": ("Scalar", ["scalar.js"]),
}
_KEPT = {"Cache-Control": "public, max-age=86400", "Vary": "Accept-Encoding"}

_POLICY = (
    # All three tools write styles into the page; ReDoc searches in a worker that it makes itself.
    "default-src 'none'; script-src {scripts}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<path d="M7 2h13l6 6v22H7z" fill="#2f6fde"/><path d="M20 2v6h6z" fill="#9dbff5"/>'
    '<path d="M11 14h11v2H11zm0 5h11v2H11zm0 5h7v2h-7z" fill="#fff"/></svg>'
)

_PAGE = """<!doctype html>
<html>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="{root}/favicon.ico">
{styles}
</head>
<body>
<div id="page" data-tool="{tool}" data-document="{root}/openapi.json"
 data-redirect="{root}/docs/oauth2-redirect"></div>
{scripts}
</body>
</html>
"""

icon_router = APIRouter(include_in_schema=False)


@icon_router.api_route("/favicon.ico", methods=PAGE)
async def favicon() -> Response:
    """The icon itself, so that no page requests one from elsewhere."""
    return Response(_ICON, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})


def make_router(app: FastAPI, static_path: Path | None) -> APIRouter:
    """The three pages. ``static_path`` is the folder served at /static, or None."""
    router = APIRouter(include_in_schema=False)

    def page(request: Request, tool: str) -> HTMLResponse:
        return _page(app.title, tool, _root(request), static_path)

    @router.api_route("/swagger", methods=PAGE)
    async def swagger(request: Request) -> HTMLResponse:
        return page(request, "swagger")

    @router.api_route("/docs", methods=PAGE)
    async def redoc(request: Request) -> HTMLResponse:
        return page(request, "redoc")

    @router.api_route("/scalar", methods=PAGE)
    async def scalar(request: Request) -> HTMLResponse:
        return page(request, "scalar")

    @router.api_route("/docs/oauth2-redirect", methods=PAGE)
    async def oauth2_redirect() -> HTMLResponse:
        answer = get_swagger_ui_oauth2_redirect_html()
        (script,) = re.findall(rb"<script>(.*?)</script>", bytes(answer.body), re.DOTALL)
        digest = b64encode(sha256(script).digest()).decode()
        answer.headers["Content-Security-Policy"] = _POLICY.format(scripts=f"'sha256-{digest}'")
        return answer

    @router.api_route(f"{_ASSETS}/{{name}}", methods=PAGE)
    async def asset(request: Request, name: str) -> Response:
        if name not in ASSETS:
            raise HTTPException(404, "Not Found")
        content, packed = _vendored(name), {}
        if "gzip" in request.headers.get("accept-encoding", ""):
            packed = {"Content-Encoding": "gzip"}
        else:
            content = gzip.decompress(content)
        return Response(content, media_type=ASSETS[name], headers=_KEPT | packed)

    return router


def _page(title: str, tool: str, root: str, static_path: Path | None) -> HTMLResponse:
    def place(name: str) -> str:
        given = static_path is not None and (static_path / name).is_file()
        return html.escape(f"{root}{_STATIC if given else _ASSETS}/{name}")

    shown, loaded = _TOOLS[tool]
    styles = [name for name in loaded if PurePath(name).suffix == ".css"]
    scripts = [*(name for name in loaded if name not in styles), _START]
    text = _PAGE.format(
        title=html.escape(f"{title} - {shown}"),
        root=html.escape(root),
        tool=tool,
        styles="\n".join(f'<link rel="stylesheet" href="{place(name)}">' for name in styles),
        scripts="\n".join(f'<script src="{place(name)}"></script>' for name in scripts),
    )
    policy = _POLICY.format(scripts="'self'")
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})


@cache
def _vendored(name: str) -> bytes:
    """A file of ``vendored/``, compressed with gzip."""
    folder = files("docling_serve.api").joinpath("vendored")
    if name == _START:
        return gzip.compress(folder.joinpath(name).read_bytes(), mtime=0)
    return folder.joinpath(f"{name}.gz").read_bytes()


def _root(request: Request) -> str:
    root: str = request.scope.get("root_path", "")
    return root.rstrip("/")
