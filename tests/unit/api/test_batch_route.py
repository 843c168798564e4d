"""The batch route: storages in, storages out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.rest_server import RestServer, rest_server

PATH = "/v1/convert/source/batch"
KEYS = {"endpoint": "s3.example.com", "access_key": "a", "secret_key": "s", "bucket": "docs"}
S3 = {"kind": "s3", **KEYS}
HTTP = {"kind": "http", "url": "https://example.com/a.pdf"}
FILE = {"kind": "file", "filename": "a.md", "base64_string": "IyBU"}
PRESIGNED = {"kind": "presigned_url"}


async def submit(server: RestServer, **body: Any) -> httpx.Response:
    return await server.client.post(PATH, json=body)


async def finished_job(server: RestServer, reply: httpx.Response) -> dict[str, Any]:
    assert reply.status_code == 200, reply.text
    await server.client.get(f"/v1/status/poll/{reply.json()['task_id']}?wait=100")
    (job,) = server.runner.jobs
    return job.model_dump(mode="json")


async def test_storage_to_storage_becomes_a_task(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        reply = await submit(server, sources=[S3], target=S3, callbacks=[{"url": "http://cb/"}])
        assert reply.json()["task_type"] == "convert"
        job = await finished_job(server, reply)
    assert job["sources"][0]["config"]["bucket"] == "docs"
    assert job["sources"][0]["config"]["secret_key"] == "s"
    assert job["targets"][0]["kind"] == "s3"
    assert job["callbacks"][0]["url"] == "http://cb/"


async def test_several_targets_reach_the_job(tmp_path: Path) -> None:
    other = {**S3, "bucket": "archive"}
    async with rest_server(tmp_path) as server:
        job = await finished_job(server, await submit(server, sources=[S3], targets=[S3, other]))
    assert [target["bucket"] for target in job["targets"]] == ["docs", "archive"]


@pytest.mark.parametrize("nothing", [{}, {"target": None}, {"targets": []}, {"targets": None}])
async def test_without_a_target_an_address_is_answered_in_the_body(
    tmp_path: Path, nothing: dict[str, Any]
) -> None:
    async with rest_server(tmp_path) as server:
        job = await finished_job(server, await submit(server, sources=[HTTP], **nothing))
    assert job["targets"] == [{"kind": "inbody"}]


@pytest.mark.parametrize("nothing", [{}, {"target": None}, {"targets": []}])
async def test_without_a_target_a_storage_is_refused(
    tmp_path: Path, nothing: dict[str, Any]
) -> None:
    async with rest_server(tmp_path) as server:
        reply = await submit(server, sources=[S3], **nothing)
    assert reply.status_code == 422
    assert reply.json()["detail"].startswith("Source kind 's3' needs a storage target")


async def test_without_a_target_artifact_storage_is_used(tmp_path: Path) -> None:
    async with rest_server(tmp_path, artifact_storage_enabled=True) as server:
        job = await finished_job(server, await submit(server, sources=[S3]))
    assert job["targets"] == [PRESIGNED]


async def test_target_and_targets_exclude_each_other(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        reply = await submit(server, sources=[S3], target=S3, targets=[S3])
    assert reply.status_code == 422
    assert reply.json()["detail"] == "The request must name either target or targets, not both."


@pytest.mark.parametrize(
    ("body", "kind", "loc"),
    [
        ({"sources": [FILE]}, "union_tag_invalid", ["body", "sources", 0]),
        ({"sources": []}, "too_short", ["body", "sources"]),
        ({"sources": [S3], "target": {"kind": "inbody"}}, "union_tag_invalid", ["body", "target"]),
        ({"sources": [{"url": "https://a.b/c"}]}, "union_tag_not_found", ["body", "sources", 0]),
    ],
)
async def test_body_is_validated(
    tmp_path: Path, body: dict[str, Any], kind: str, loc: list[Any]
) -> None:
    async with rest_server(tmp_path) as server:
        reply = await submit(server, **body)
    (error,) = reply.json()["detail"]
    assert reply.status_code == 422
    assert (error["type"], error["loc"]) == (kind, loc)


async def test_zip_address_is_accepted(tmp_path: Path) -> None:
    url = "https://example.com/many.zip"
    async with rest_server(tmp_path) as server:
        reply = await submit(server, sources=[{"kind": "http", "url": url}], target=S3)
        job = await finished_job(server, reply)
    assert job["sources"][0]["url"] == url


@pytest.mark.parametrize(
    ("settings", "body", "detail"),
    [
        (
            {"max_sources_per_request": 1},
            {"sources": [HTTP, HTTP]},
            "Too many sources: 2 exceeds the maximum of 1.",
        ),
        (
            {},
            {"sources": [HTTP], "target": PRESIGNED},
            "Presigned URL target requires artifact storage to be configured and enabled on the"
            " server.",
        ),
        (
            {"allowed_target_types": ["inbody"]},
            {"sources": [S3], "target": S3},
            "Target kind 's3' is not allowed. Allowed kinds: inbody.",
        ),
        (
            {},
            {"sources": [HTTP], "options": {"images_scale": 3}},
            "images_scale exceeds the configured maximum of 2.0.",
        ),
        (
            {"allowed_source_types": ["file"]},
            {"sources": [HTTP]},
            "Source kind 'http' is not allowed. Allowed kinds: .",
        ),
    ],
)
async def test_policy_is_asked(
    tmp_path: Path, settings: dict[str, Any], body: dict[str, Any], detail: str
) -> None:
    async with rest_server(tmp_path, **settings) as server:
        reply = await submit(server, **body)
        assert (reply.status_code, reply.json()) == (422, {"detail": detail})
        assert server.runner.jobs == []


async def test_settings_narrow_the_schema(tmp_path: Path) -> None:
    async with rest_server(tmp_path, allowed_source_types=["s3"]) as server:
        refused = await submit(server, sources=[HTTP])
        assert refused.status_code == 422
        document = (await server.client.get("/openapi.json")).json()
        schema = document["components"]["schemas"]["BatchConvertSourcesRequest"]
        assert schema["properties"]["sources"]["items"] == {
            "$ref": "#/components/schemas/S3SourceRequest"
        }


async def test_version_header_is_judged_last(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        reply = await server.client.post(
            PATH, json={"sources": [HTTP]}, headers={"Accept-Docling-Document-Version": "abc"}
        )
    assert reply.json()["detail"] == "unparseable Accept-Docling-Document-Version 'abc'"


async def test_kinds_that_the_settings_add_are_part_of_the_schema(tmp_path: Path) -> None:
    volumes = {
        "kind": "databricks_volumes",
        "workspace_host": "dbc.example.com",
        "token": "t",
        "volume_path": "/Volumes/main/docs/in",
    }
    async with rest_server(
        tmp_path,
        allowed_source_types=["http", "databricks_volumes"],
        allowed_target_types=["inbody", "databricks_volumes"],
    ) as server:
        job = await finished_job(server, await submit(server, sources=[volumes], target=volumes))
        refused = await submit(server, sources=[S3], target=volumes)
    assert job["sources"][0]["config"].items() >= volumes.items()
    assert job["targets"][0].items() >= volumes.items()
    (error,) = refused.json()["detail"]
    assert error["type"] == "union_tag_invalid"
    assert "'http', 'databricks_volumes'" in error["msg"]
