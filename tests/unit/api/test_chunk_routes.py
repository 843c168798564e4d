"""The chunk routes: what a request becomes, for both chunkers, sync and async."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from docling_serve.errors import Failure
from tests.helpers.rest_server import RestServer, rest_server

CHUNKERS = pytest.mark.parametrize("chunker", ["hybrid", "hierarchical"])
UPLOAD = [("files", ("a.md", b"# T"))]
SOURCE = {"kind": "file", "filename": "a.md", "base64_string": base64.b64encode(b"# T").decode()}


async def only_job(server: RestServer) -> dict[str, Any]:
    (job,) = server.runner.jobs
    return job.model_dump(mode="json")


@CHUNKERS
async def test_sync_request_is_answered_with_the_result(tmp_path: Path, chunker: str) -> None:
    async with rest_server(tmp_path) as server:
        reply = await server.client.post(f"/v1/chunk/{chunker}/file", files=UPLOAD)
        assert reply.status_code == 200, reply.text
        assert reply.json()["job"]["task_type"] == "chunk"
        assert reply.json()["job"]["chunking_options"]["chunker"] == chunker
        assert reply.headers["X-Docling-Task-Id"]
        assert server.runner.documents == [b"# T"]


@CHUNKERS
@pytest.mark.parametrize("origin", ["file", "source"])
async def test_async_request_is_a_task_whose_result_can_be_fetched(
    tmp_path: Path, chunker: str, origin: str
) -> None:
    body: Any = {"files": UPLOAD} if origin == "file" else {"json": {"sources": [SOURCE]}}
    async with rest_server(tmp_path) as server:
        submitted = await server.client.post(f"/v1/chunk/{chunker}/{origin}/async", **body)
        task = submitted.json()
        assert (task["task_type"], task["task_status"]) == ("chunk", "pending")
        done = await server.client.get(f"/v1/status/poll/{task['task_id']}?wait=100")
        assert done.json()["task_status"] == "success"
        result = await server.client.get(f"/v1/result/{task['task_id']}")
        assert result.json()["job"]["chunking_options"]["chunker"] == chunker


async def test_form_fields_reach_the_job(tmp_path: Path) -> None:
    fields = {
        "convert_do_ocr": "false",
        "convert_to_formats": "html",  # unknown, so ignored
        "chunking_max_tokens": "64",
        "chunking_include_raw_text": "true",
        "include_converted_doc": "true",
        "target_type": "zip",
    }
    async with rest_server(tmp_path) as server:
        await server.client.post("/v1/chunk/hybrid/file", data=fields, files=UPLOAD)
        job = await only_job(server)
    assert job["options"]["do_ocr"] is False
    assert job["options"]["to_formats"] == ["md"]
    assert job["chunking_options"]["max_tokens"] == 64
    assert job["chunking_options"]["include_raw_text"] is True
    assert job["include_converted_doc"] is True
    assert job["targets"] == [{"kind": "zip"}]


async def test_json_fields_reach_the_job(tmp_path: Path) -> None:
    request = {
        "sources": [SOURCE],
        "options": {"do_ocr": True},  # not a field of chunk requests, so ignored
        "convert_options": {"do_ocr": False, "chunking_preset": "minilm_l6"},
        "chunking_options": {"use_markdown_tables": True},
        "include_converted_doc": True,
        "target": {"kind": "put", "url": "http://example.com/put"},
        "callbacks": [{"url": "http://example.com/cb"}],
    }
    async with rest_server(tmp_path) as server:
        await server.client.post("/v1/chunk/hierarchical/source", json=request)
        job = await only_job(server)
    assert job["options"]["do_ocr"] is False
    assert job["options"]["chunking_preset"] is None
    assert job["chunking_options"]["use_markdown_tables"] is True
    assert job["include_converted_doc"] is True
    assert job["targets"] == [{"kind": "put", "url": "http://example.com/put"}]
    assert job["callbacks"][0]["url"] == "http://example.com/cb"


async def test_several_documents_keep_their_names(tmp_path: Path) -> None:
    files = [("files", (name, b"x")) for name in ("a.md", "sub/b.md")]
    async with rest_server(tmp_path) as server:
        await server.client.post("/v1/chunk/hybrid/file", files=files)
        job = await only_job(server)
    assert [source["filename"] for source in job["sources"]] == ["a.md", "b.md"]


@pytest.mark.parametrize(
    ("settings", "target", "detail"),
    [
        ({}, "presigned_url", "presigned_url target is not supported for chunk endpoints."),
        (
            {"allowed_target_types": ["zip"]},
            "inbody",
            "Target kind 'inbody' is not allowed. Allowed kinds: zip.",
        ),
    ],
)
async def test_target_is_asked_of_policy(
    tmp_path: Path, settings: dict[str, Any], target: str, detail: str
) -> None:
    async with rest_server(tmp_path, **settings) as server:
        for request in (
            {"data": {"target_type": target}, "files": UPLOAD},
            {"json": {"sources": [SOURCE], "target": {"kind": target}}},
        ):
            origin = "file" if "files" in request else "source"
            reply = await server.client.post(f"/v1/chunk/hybrid/{origin}", **request)
            assert (reply.status_code, reply.json()) == (422, {"detail": detail})
        assert server.runner.jobs == []


async def test_request_without_a_target_gets_the_one_that_is_open(tmp_path: Path) -> None:
    async with rest_server(tmp_path, allowed_target_types=["zip"]) as server:
        await server.client.post("/v1/chunk/hybrid/file", files=UPLOAD)
        await server.client.post("/v1/chunk/hybrid/source", json={"sources": [SOURCE]})
        assert [job.targets for job in server.runner.jobs] == [[{"kind": "zip"}]] * 2


async def test_too_many_documents_are_refused(tmp_path: Path) -> None:
    async with rest_server(tmp_path, max_sources_per_request=1) as server:
        files = await server.client.post("/v1/chunk/hybrid/file", files=UPLOAD * 2)
        sources = await server.client.post(
            "/v1/chunk/hybrid/source", json={"sources": [SOURCE] * 2}
        )
    assert files.json()["detail"] == "Too many files: 2 exceeds the maximum of 1."
    assert sources.json()["detail"] == "Too many sources: 2 exceeds the maximum of 1."


async def test_chunker_of_another_path_is_refused(tmp_path: Path) -> None:
    request = {"sources": [SOURCE], "chunking_options": {"chunker": "hybrid"}}
    async with rest_server(tmp_path) as server:
        reply = await server.client.post("/v1/chunk/hierarchical/source", json=request)
    (error,) = reply.json()["detail"]
    assert reply.status_code == 422
    assert (error["type"], error["loc"]) == (
        "literal_error",
        ["body", "chunking_options", "chunker"],
    )


async def test_key_is_asked_before_the_body_is_judged(tmp_path: Path) -> None:
    async with rest_server(tmp_path, api_key="secret") as server:
        refused = await server.client.post("/v1/chunk/hybrid/file")
        judged = await server.client.post("/v1/chunk/hybrid/file", headers={"X-Api-Key": "secret"})
    assert (refused.status_code, refused.json()) == (401, {"detail": "Unauthorized"})
    assert judged.status_code == 422


async def test_failed_task_answers_by_its_category(tmp_path: Path) -> None:
    failure = Failure("policy", "no such preset")
    async with rest_server(tmp_path, failure=failure) as server:
        reply = await server.client.post("/v1/chunk/hybrid/file", files=UPLOAD)
    assert reply.status_code == 422
    assert reply.json()["detail"] == "no such preset"
    assert reply.json()["failure"]["category"] == "policy"


async def test_task_belongs_to_its_tenant(tmp_path: Path) -> None:
    acme = {"X-Tenant-Id": "acme"}
    async with rest_server(tmp_path) as server:
        task = await server.client.post("/v1/chunk/hybrid/file/async", files=UPLOAD, headers=acme)
        path = f"/v1/status/poll/{task.json()['task_id']}"
        assert (await server.client.get(path, headers=acme)).status_code == 200
        assert (await server.client.get(path)).status_code == 404
