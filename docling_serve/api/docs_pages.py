"""Pages that show the OpenAPI document: Swagger UI, ReDoc and Scalar, and the icon of all pages.

Their scripts come from public CDNs unless ``static_path`` holds them; then the pages work without
any other network (upstream B16).
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import (
    get_redoc_html,
    get_swagger_ui_html,
    get_swagger_ui_oauth2_redirect_html,
)
from fastapi.responses import HTMLResponse, Response

#: Clients look with HEAD whether a page is there, and so whether the server is.
PAGE = ["GET", "HEAD"]

_STATIC = "/static"
#: File names below ``static_path``, with where they are had otherwise.
ASSETS = {
    "swagger-ui-bundle.js": "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/swagger-ui-bundle.js",
    "swagger-ui.css": "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5/swagger-ui.css",
    "redoc.standalone.js": "https://cdn.jsdelivr.net/npm/redoc@2/bundles/redoc.standalone.js",
    "scalar.js": "https://cdn.jsdelivr.net/npm/@scalar/api-reference@1",
}

_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<path d="M7 2h13l6 6v22H7z" fill="#2f6fde"/><path d="M20 2v6h6z" fill="#9dbff5"/>'
    '<path d="M11 14h11v2H11zm0 5h11v2H11zm0 5h7v2h-7z" fill="#fff"/></svg>'
)

_SCALAR_PAGE = """<!doctype html>
<html>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="{icon}">
</head>
<body>
<div id="app"></div>
<script src="{script}"></script>
<script>Scalar.createApiReference('#app', {options})</script>
</body>
</html>
"""

icon_router = APIRouter(include_in_schema=False)


@icon_router.api_route("/favicon.ico", methods=PAGE)
async def favicon() -> Response:
    """The icon itself, so that no page asks anybody else for one."""
    return Response(_ICON, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})


def make_router(app: FastAPI, static_path: Path | None) -> APIRouter:
    """The three pages. ``static_path`` is a folder that is served at /static, or None."""
    router = APIRouter(include_in_schema=False)

    def place(request: Request, name: str) -> str:
        if static_path is not None and (static_path / name).is_file():
            return f"{_root(request)}{_STATIC}/{name}"
        return ASSETS[name]

    @router.api_route("/swagger", methods=PAGE)
    async def swagger(request: Request) -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url=_document(request),
            title=f"{app.title} - Swagger UI",
            swagger_js_url=place(request, "swagger-ui-bundle.js"),
            swagger_css_url=place(request, "swagger-ui.css"),
            swagger_favicon_url=_icon(request),
        )

    @router.api_route("/docs/oauth2-redirect", methods=PAGE)
    async def oauth2_redirect() -> HTMLResponse:
        return get_swagger_ui_oauth2_redirect_html()

    @router.api_route("/docs", methods=PAGE)
    async def redoc(request: Request) -> HTMLResponse:
        script = place(request, "redoc.standalone.js")
        return get_redoc_html(
            openapi_url=_document(request),
            title=f"{app.title} - ReDoc",
            redoc_js_url=script,
            redoc_favicon_url=_icon(request),
            with_google_fonts=script in ASSETS.values(),
        )

    @router.api_route("/scalar", methods=PAGE)
    async def scalar(request: Request) -> HTMLResponse:
        script = place(request, "scalar.js")
        options: dict[str, Any] = {
            "url": _document(request),
            "telemetry": False,
            "withDefaultFonts": script in ASSETS.values(),
        }
        page = _SCALAR_PAGE.format(
            title=html.escape(f"{app.title} - Scalar"),
            icon=html.escape(_icon(request)),
            script=html.escape(script),
            # "<" must not end the script element.
            options=json.dumps(options).replace("<", "\\u003c"),
        )
        return HTMLResponse(page)

    return router


def _root(request: Request) -> str:
    root: str = request.scope.get("root_path", "")
    return root.rstrip("/")


def _document(request: Request) -> str:
    return f"{_root(request)}/openapi.json"


def _icon(request: Request) -> str:
    return f"{_root(request)}/favicon.ico"
