"""The OpenAPI document of one deployment: that of the routes, with the names its settings give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from docling_serve.api.dependencies import DEFAULT_TENANT_HEADER
from docling_serve.api.faces import SHAPES
from docling_serve.api.forms import MultipartForm
from docling_serve.api.refusals import add_refusals
from docling_serve.policy import PolicyViolation, ServicePolicy
from docling_serve.settings import DoclingServeSettings


def describe_with(
    app: FastAPI,
    settings: DoclingServeSettings,
    policy: ServicePolicy,
    forms: Mapping[str, MultipartForm],
) -> Callable[[], dict[str, Any]]:
    """A function to use as ``app.openapi``; it builds the document once, when first called.
    ``forms`` are those that routes describe by name."""
    made: dict[str, Any] = {}

    def describe() -> dict[str, Any]:
        if not made:
            made.update(get_openapi(title=app.title, version=app.version, routes=app.routes))
            add_forms(made, forms)
            _name_tenant_header(made, settings.eng_ray_tenant_id_header)
            _name_default_target(made, policy)
            add_refusals(made, SHAPES)
        return made

    return describe


def add_forms(document: dict[str, Any], forms: Mapping[str, MultipartForm]) -> None:
    """Put the schemas of ``forms`` among the components, with what they refer to."""
    schemas = document["components"]["schemas"]
    for name, form in forms.items():
        schema = form.schema(name)
        for referred, definition in schema.pop("$defs", {}).items():
            schemas.setdefault(referred, definition)
        schemas[name] = schema


def _name_tenant_header(document: dict[str, Any], name: str) -> None:
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] == DEFAULT_TENANT_HEADER:
                    parameter["name"] = name


def _name_default_target(document: dict[str, Any], policy: ServicePolicy) -> None:
    """docling's model names a default of its own; here the deployment decides."""
    target = document["components"]["schemas"]["ConvertSourcesRequest"]["properties"]["target"]
    try:
        target["default"] = {"kind": policy.default_target_kind()}
    except PolicyViolation:  # every open target needs details, so there is no default
        del target["default"]
