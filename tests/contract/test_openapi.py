"""Our OpenAPI document says what that of docling-serve 1.38.2 says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from docling_serve.api import make_app
from docling_serve.policy import ServicePolicy
from tests.contract.documented import is_documented
from tests.contract.openapi_facts import Facts, differences, facts
from tests.contract.recordings import STAGE_FIELDS
from tests.helpers.rest_server import everything_installed, no_lifespan, settings_of

THEIRS: Facts = json.loads((Path(__file__).parent / "data" / "openapi_facts.json").read_text())

_META = "schemas|TaskProcessingMeta|properties"
SUBMISSIONS = [
    *("/v1/convert/source/batch", "/v1/convert/source", "/v1/convert/file"),
    *("/v1/convert/source/async", "/v1/convert/file/async"),
    *(
        f"/v1/chunk/{chunker}/{origin}{how}"
        for chunker in ("hybrid", "hierarchical")
        for origin in ("source", "file")
        for how in ("", "/async")
    ),
]
_FORMS = [
    f"{chunker.capitalize()}Chunker{name}_v1_chunk_{chunker}_file{path}_post"
    for chunker in ("hybrid", "hierarchical")
    for name, path in (("", ""), ("_as_async_task", "_async"))
]
_SUBMITS = "400 401 413 429 503 507"
_WAITS = f"{_SUBMITS} 404 409 415 424 500 504"
#: Statuses that their document does not list.
REFUSALS = {
    **{
        f"POST {path}": _SUBMITS if path.endswith(("/async", "/batch")) else _WAITS
        for path in SUBMISSIONS
    },
    "GET /ready": "503",
    "GET /version": "403",
    "GET /v1/clear/converters": "401 503",
    "GET /v1/clear/results": "401 503",
    "GET /v1/memory/counts": "401 403",
    "GET /v1/memory/stats": "401 403",
    "GET /v1/result/{task_id}": "401 404 503",
    "GET /v1/status/poll/{task_id}": "401 404 503",
}
_DETAIL = ("anyOf", "items", "type")
#: Where something differs, and the row of docs/differences.md that tells of it.
LISTED = {
    "operations|DELETE /v1/tasks/{task_id}": "F57",
    "operations|GET /v1/capacity": "capacity",
    "operations|GET /v1/tasks": "tasks",
    "operations|GET /v1/tasks/{task_id}/events": "events",
    "schemas|CapacityResponse": "capacity",
    "schemas|LineCapacityResponse": "capacity",
    "schemas|ListedTask": "tasks",
    "schemas|TaskListResponse": "tasks",
    "schemas|TaskStatus": "tasks",
    "operations|GET /v1/memory/counts|security": "B19",
    "operations|GET /v1/memory/stats|security": "B19",
    "operations|GET /v1/workers": "workers",
    "operations|GET /v1/workers/events": "operations",
    "operations|DELETE /v1/workers/{number}": "operations",
    "schemas|Stage": "stages",
    **{f"schemas|TaskStatusResponse|properties|{name}": "stages" for name in (*STAGE_FIELDS,)},
    **{
        f"operations|{name}|responses|{status}": "answers"
        for name, statuses in REFUSALS.items()
        for status in statuses.split()
    },
    **{f"schemas|{name}": "answers" for name in ("FailedTask", "Refusal")},
    **{f"schemas|HTTPValidationError|properties|detail|{key}": "answers" for key in _DETAIL},
    "operations|GET /v1/clear/results|parameters|header X-Tenant-Id": "K93 tenant",
    **{
        f"schemas|Body_Chunk_files_with_{form}|properties|callbacks": "callbacks" for form in _FORMS
    },
    f"{_META}|completed_pages": "progress",
    f"{_META}|document": "progress",
    f"{_META}|phase": "progress",
    f"{_META}|total_pages": "progress",
    **{
        f"operations|POST {path}|parameters|header Idempotency-Key": "idempotency"
        for path in SUBMISSIONS
    },
}


def document(**values: Any) -> Facts:
    settings = settings_of(**values)
    policy = ServicePolicy.from_settings(settings, everything_installed())
    return make_app(settings, policy, no_lifespan).openapi()


@pytest.fixture(scope="module")
def default() -> Facts:
    return document()


def test_differs_only_where_listed(default: Facts) -> None:
    found = {where: (theirs, ours) for where, theirs, ours in differences(THEIRS, facts(default))}
    assert {where: pair for where, pair in found.items() if where not in LISTED} == {}
    assert found.keys() == LISTED.keys()
    gone = {where for where, (theirs, _) in found.items() if theirs is not None}
    assert gone == {f"schemas|HTTPValidationError|properties|detail|{k}" for k in ("items", "type")}


def test_a_422_gives_fields_or_a_text(default: Facts) -> None:
    ours = facts(default)["schemas"]["HTTPValidationError"]["properties"]["detail"]
    theirs = THEIRS["schemas"]["HTTPValidationError"]["properties"]["detail"]
    assert ours == {"anyOf": [theirs, {"type": "string"}]}


def test_what_is_listed_is_documented() -> None:
    assert [row for row in LISTED.values() if not is_documented(row)] == []


def test_tenant_header_goes_by_its_configured_name() -> None:
    ours = facts(document(eng_ray_tenant_id_header="X-Customer"))
    parameters = ours["operations"]["GET /v1/result/{task_id}"]["parameters"]
    assert set(parameters) == {"path task_id", "header X-Customer"}


@pytest.mark.parametrize(
    ("settings", "default_target"),
    [
        ({"artifact_storage_enabled": True}, {"kind": "presigned_url"}),
        ({"allowed_target_types": ["zip"]}, {"kind": "zip"}),
        ({"allowed_target_types": ["s3"]}, None),
    ],
)
def test_default_target_is_that_of_the_deployment(
    settings: dict[str, Any], default_target: Any
) -> None:
    schemas = facts(document(**settings))["schemas"]
    target = schemas["ConvertSourcesRequest"]["properties"]["target"]
    assert target.get("default") == default_target


def test_closed_routes_are_not_described() -> None:
    operations = facts(document(enable_capabilities_endpoint=False))["operations"]
    assert THEIRS["operations"].keys() - operations.keys() == {"GET /v1/capabilities"}
