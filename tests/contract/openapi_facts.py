"""What of an OpenAPI document a client depends on, without its prose.

``python -m tests.contract.openapi_facts <openapi.json >data/openapi_facts.json`` made the facts
of docling-serve 1.38.2.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

Facts = dict[str, Any]

_PROSE = frozenset({"title", "description", "summary", "examples", "deprecated"})
_REF = "#/components/schemas/"
#: The document model is docling-core's own: it has a version of its own and changes with it.
_FOREIGN = frozenset({"DoclingDocument"})


def facts(document: Facts) -> Facts:
    """Operations by ``METHOD path``, the schemas they reach, and the security schemes."""
    operations = {
        f"{method.upper()} {path}": _operation(operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    schemas = document["components"]["schemas"]
    reached = _reached(operations, schemas)
    return {
        "operations": operations,
        "schemas": {name: _reduced(schemas[name]) for name in sorted(reached)},
        "security_schemes": document["components"].get("securitySchemes"),
    }


def differences(theirs: Any, ours: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Path, their value and our value of everything that differs; None stands for absent."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            yield from differences(theirs.get(key), ours.get(key), f"{where}|{key}".lstrip("|"))
    elif theirs != ours:
        yield where, theirs, ours


def _operation(operation: Facts) -> Facts:
    return {
        "id": operation["operationId"],
        "tags": operation.get("tags"),
        "security": operation.get("security"),
        "parameters": {
            f"{parameter['in']} {parameter['name']}": {
                "required": parameter["required"],
                "schema": _reduced(parameter["schema"]),
            }
            for parameter in operation.get("parameters", [])
        },
        "body": _contents(operation.get("requestBody", {})),
        "responses": {
            status: _contents(response) for status, response in operation["responses"].items()
        },
    }


def _contents(message: Facts) -> Facts:
    content = message.get("content", {})
    return {media_type: _reduced(body.get("schema")) for media_type, body in content.items()}


def _reduced(schema: Any, *, names: bool = False) -> Any:
    """``schema`` without prose; ``names`` says that its keys are names of properties."""
    if isinstance(schema, list):
        return [_reduced(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _reduced(value, names=key in ("properties", "mapping") and not names)
        for key, value in schema.items()
        if names or key not in _PROSE
    }


def _reached(operations: Facts, schemas: Facts) -> set[str]:
    reached: set[str] = set()
    unread = list(_references(operations))
    while unread:
        name = unread.pop()
        if name not in reached | _FOREIGN:
            reached.add(name)
            unread += _references(schemas[name])
    return reached


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from _references(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)
    elif isinstance(value, str) and value.startswith(_REF):
        yield value.removeprefix(_REF)


if __name__ == "__main__":
    json.dump(facts(json.load(sys.stdin)), sys.stdout, sort_keys=True, separators=(",", ":"))
