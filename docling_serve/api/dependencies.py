"""What routes ask for, as annotated aliases.

FastAPI resolves a dependency for each place that names it, even when it already has the value:
some 80 us each. So code on the path of every request calls :func:`services_of`.
"""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import Depends, Header, HTTPException, Request, Security
from fastapi.requests import HTTPConnection
from fastapi.security import APIKeyHeader
from starlette.datastructures import Headers

from docling_serve.api.services import Services
from docling_serve.engines.base import DEFAULT_TENANT

DEFAULT_TENANT_HEADER = "X-Tenant-Id"

_api_key_header = APIKeyHeader(name="X-Api-Key", scheme_name="APIKeyAuth", auto_error=False)


def services_of(connection: HTTPConnection) -> Services:
    """The collaborators the app was created with."""
    services: Services = connection.app.state.services
    return services


async def _get_services(connection: HTTPConnection) -> Services:
    return services_of(connection)


async def require_api_key(
    request: Request, _: Annotated[str | None, Security(_api_key_header)] = None
) -> None:
    """Let the request through if no key is configured, or if it carries the right one.

    Raises:
        HTTPException: 401, with the same body for every reason (upstream C20).
    """
    if not brings_key(services_of(request).settings.api_key, request.headers):
        raise HTTPException(401, "Unauthorized")


def brings_key(expected: str, headers: Headers, *others: str | None) -> bool:
    """Whether a request with these headers, or one of the ``others``, has the ``expected`` key,
    sent as ``X-Api-Key`` or as ``Authorization: Bearer``. Always true where none is set."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    keys = [headers.get("x-api-key"), token.strip() if scheme.lower() == "bearer" else None]
    right = [
        secrets.compare_digest((k or "").encode(), expected.encode()) for k in (*keys, *others)
    ]
    return not expected or any(right)


async def tenant_id(
    request: HTTPConnection,
    _: Annotated[str | None, Header(alias=DEFAULT_TENANT_HEADER)] = None,
) -> str:
    """The tenant named by the configured header (upstream G74)."""
    return named_tenant(request, services_of(request)) or DEFAULT_TENANT


def named_tenant(request: HTTPConnection, services: Services) -> str:
    """The value of the tenant header; empty where it is missing or empty."""
    return request.headers.get(services.settings.eng_ray_tenant_id_header, "")


ServicesDep = Annotated[Services, Depends(_get_services)]
Tenant = Annotated[str, Depends(tenant_id)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="A text that the client chooses, unique to each request. If the same request is"
        " sent again with the same text, the original task is returned and no other is created.",
    ),
]
DocumentVersionHeader = Annotated[str | None, Header(alias="Accept-Docling-Document-Version")]
RequireApiKey = Depends(require_api_key)
