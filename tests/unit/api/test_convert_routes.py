"""The convert routes: what a request becomes, and in which order it is judged."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from docling_serve.errors import Failure
from tests.helpers.rest_server import rest_server

UPLOAD = [("files", ("a.md", b"# T"))]
SOURCE = {"kind": "file", "filename": "a.md", "base64_string": "IyBU"}
HTTP = {"kind": "http", "url": "https://example.com/a.pdf"}
OLD = {"Accept-Docling-Document-Version": "1.6.0"}
BAD = {"Accept-Docling-Document-Version": "new"}


async def test_file_and_source_become_the_same_job(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        await server.client.post(
            "/v1/convert/file", files=UPLOAD, data={"do_ocr": "false"}, headers=OLD
        )
        body = {"sources": [SOURCE], "options": {"do_ocr": False}}
        await server.client.post("/v1/convert/source", json=body, headers=OLD)
        one, other = [
            job.model_dump(mode="json", exclude={"task_id"}) for job in server.runner.jobs
        ]
        assert server.runner.documents == [b"# T", b"# T"]
    assert one == other
    assert one["target_document_version"] == "1.6.0"
    assert one["targets"] == [{"kind": "inbody"}]


@pytest.mark.parametrize(
    ("name", "media_type", "kept"),
    [
        ("document", "text/markdown; charset=utf-8", "document.md"),
        ("table", "text/csv", "table.csv"),
        ("a.txt", "text/markdown", "a.txt"),
        ("letter", "application/pdf", "letter"),  # docling finds the format in the content
        ("thing", "text/x-unheard-of", "thing"),
    ],
)
async def test_a_text_without_an_extension_is_named_by_its_type(
    tmp_path: Path, name: str, media_type: str, kept: str
) -> None:
    async with rest_server(tmp_path) as server:
        await server.client.post("/v1/convert/file", files=[("files", (name, b"x", media_type))])
        (job,) = server.runner.jobs
    assert [source.filename for source in job.sources] == [kept]


async def test_headers_stay_with_their_source(tmp_path: Path) -> None:
    sources = [{**HTTP, "headers": {"X-A": str(number)}} for number in (1, 2)]
    async with rest_server(tmp_path) as server:
        await server.client.post("/v1/convert/source", json={"sources": sources})
        (job,) = server.runner.jobs
    assert [source.model_dump()["headers"] for source in job.sources] == [
        {"X-A": "1"},
        {"X-A": "2"},
    ]


@pytest.mark.parametrize(
    ("settings", "target"),
    [({}, "inbody"), ({"allowed_target_types": ["zip", "put"]}, "zip")],
)
async def test_request_without_a_target_gets_the_one_that_is_open(
    tmp_path: Path, settings: dict[str, Any], target: str
) -> None:
    async with rest_server(tmp_path, **settings) as server:
        await server.client.post("/v1/convert/source", json={"sources": [SOURCE]})
        await server.client.post("/v1/convert/file", files=UPLOAD)
        assert [job.targets for job in server.runner.jobs] == [[{"kind": target}]] * 2


async def test_broken_base64_is_named(tmp_path: Path) -> None:
    sources = [SOURCE, {**SOURCE, "base64_string": "!!!"}]
    async with rest_server(tmp_path) as server:
        reply = await server.client.post("/v1/convert/source", json={"sources": sources})
        assert server.runner.jobs == []
    (error,) = reply.json()["detail"]
    assert (reply.status_code, error["loc"]) == (
        422,
        ["body", "sources", 1, "file", "base64_string"],
    )


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"options": {"images_scale": 9}}, "images_scale exceeds"),
        ({"target": {"kind": "presigned_url"}}, "Presigned URL target requires"),
        ({"sources": [SOURCE] * 4}, "Too many sources: 4"),
        ({}, "unparseable Accept-Docling-Document-Version"),
    ],
)
async def test_first_fault_is_told(tmp_path: Path, fault: dict[str, Any], text: str) -> None:
    """Later faults are there too (upstream A9)."""
    later = {
        "options": {},
        "target": {"kind": "presigned_url"},
        "sources": [SOURCE] * 4,
    }
    order = ["options", "target", "sources"]
    known = [key for key in order if key in fault]
    keep = order[order.index(known[0]) :] if known else []
    body = {"sources": [SOURCE], **{key: later[key] for key in keep}, **fault}
    async with rest_server(tmp_path) as server:
        reply = await server.client.post("/v1/convert/source", json=body, headers=BAD)
    assert reply.status_code == 422
    assert reply.json()["detail"].startswith(text)


async def test_failure_answers_with_its_cause_and_its_task(tmp_path: Path) -> None:
    async with rest_server(tmp_path, failure=Failure("source_unavailable", "gone")) as server:
        reply = await server.client.post("/v1/convert/file", files=UPLOAD)
        task_id = reply.json()["task_id"]
        result = await server.client.get(f"/v1/result/{task_id}")
        status = await server.client.get(f"/v1/status/poll/{task_id}")
    assert (reply.status_code, reply.json()["detail"]) == (424, "gone")
    assert result.status_code == 200
    assert result.json()["kind"] == "TaskFailureResult"
    assert result.json()["failure"]["message"] == "gone"
    assert status.json()["error_message"] == "gone"
    assert status.json()["failure"]["category"] == "source_unavailable"


async def test_callbacks_hear_of_a_failed_task(tmp_path: Path) -> None:
    data = {"callbacks": "https://example.com/cb"}
    async with rest_server(tmp_path, failure=Failure("timeout", "too slow")) as server:
        reply = await server.client.post("/v1/convert/file", files=UPLOAD, data=data)
        await server.client.post("/v1/convert/file", files=UPLOAD)
        ((task_id, event),) = server.events
    assert task_id == reply.json()["task_id"]
    assert (event["kind"], event["task_status"]) == ("task_completed", "failure")
    assert event["failure"]["message"] == "too slow"


async def test_a_result_that_is_not_there_yet_is_asked_for_again(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        accepted = await server.client.post("/v1/convert/file/async", files=UPLOAD)
        early = await server.client.get(f"/v1/result/{accepted.json()['task_id']}")
        server.runner.gate.set()
    assert early.status_code == 404
    assert early.json() == {"detail": "Task result not found. Please wait for a completion status."}


async def test_callbacks_hear_of_every_end(tmp_path: Path) -> None:
    data = {"callbacks": "https://example.com/cb"}
    async with rest_server(tmp_path, closed=True) as server:
        ids = []
        for _ in range(2):
            reply = await server.client.post("/v1/convert/file/async", files=UPLOAD, data=data)
            ids.append(reply.json()["task_id"])
        await server.runner.begun.get()
        await server.client.delete(f"/v1/tasks/{ids[1]}")  # it waits
        server.runner.gate.set()
        await server.client.get(f"/v1/status/poll/{ids[0]}?wait=100")
        ends = [(task_id, event["task_status"]) for task_id, event in server.events]
    assert ends == [(ids[1], "failure"), (ids[0], "success")]


@pytest.mark.parametrize("allowed", [False, True])
async def test_a_callback_to_a_private_address_is_refused(tmp_path: Path, allowed: bool) -> None:
    data = {"callbacks": "http://127.0.0.1:9/cb"}
    async with rest_server(tmp_path, callback_allow_private=allowed) as server:
        reply = await server.client.post("/v1/convert/file/async", files=UPLOAD, data=data)
    assert reply.status_code == (200 if allowed else 422)


async def test_a_callback_to_what_is_no_address_is_refused(tmp_path: Path) -> None:
    data = {"callbacks": "https://example.com/" + "a" * 70_000}
    async with rest_server(tmp_path, callback_allow_private=True) as server:
        reply = await server.client.post("/v1/convert/file/async", files=UPLOAD, data=data)
    assert reply.status_code == 422
    assert "cannot be sent" in reply.json()["detail"]


async def test_a_header_that_is_no_text_is_refused(tmp_path: Path) -> None:
    body = (
        r'{"sources":[{"kind":"http","url":"https://example.com/a.pdf","headers":{"X":"\ud800"}}]}'
    )
    async with rest_server(tmp_path) as server:
        reply = await server.client.post(
            "/v1/convert/source", content=body, headers={"Content-Type": "application/json"}
        )
        assert server.runner.jobs == []
    assert reply.status_code == 422
    assert "sources.0.headers.X" in reply.json()["detail"]


async def test_an_upload_that_does_not_fit_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FastAPI takes whatever keeps it from reading a body for the client's fault."""

    async def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("starlette.datastructures.UploadFile.write", full)
    async with rest_server(tmp_path) as server:
        reply = await server.client.post("/v1/convert/file", files=UPLOAD)
    assert reply.status_code == 507
    assert "disk is full" in reply.json()["detail"]


async def test_closed_capabilities_are_not_there(tmp_path: Path) -> None:
    async with rest_server(tmp_path, enable_capabilities_endpoint=False) as server:
        assert (await server.client.get("/v1/capabilities")).status_code == 404
    async with rest_server(tmp_path / "open", api_key="secret") as server:
        reply = await server.client.get("/v1/capabilities")
    assert reply.status_code == 200
    assert reply.json()["features"]["api_key_required"] is True


@pytest.mark.parametrize(("age", "status"), [("-1e300", 200), ("1e300", 200), ("nan", 422)])
async def test_an_age_that_no_clock_has_is_no_fault(tmp_path: Path, age: str, status: int) -> None:
    async with rest_server(tmp_path) as server:
        reply = await server.client.get(f"/v1/clear/results?older_then={age}")
    assert reply.status_code == status


async def test_form_fields_that_mean_nothing_are_named(tmp_path: Path) -> None:
    sent = {
        "do_chunking": "true",
        "to_formats": "md",
        "n\u00e4me, x": "x",
        "options": '{"do_ocr": false, "do_chunk": 1}',
    }
    async with rest_server(tmp_path) as server:
        reply = await server.client.post("/v1/convert/file", files=UPLOAD, data=sent)
        plain = await server.client.post("/v1/convert/file", files=UPLOAD, data={"do_ocr": "no"})
    assert reply.status_code == 200
    assert reply.headers["x-docling-ignored-fields"].split(", ") == [
        "do_chunking",
        "n%C3%A4me%2C%20x",
        "options.do_chunk",
    ]
    assert "x-docling-ignored-fields" not in plain.headers


@pytest.mark.parametrize(
    "sent",
    [
        {"do_chunking": "true", "do_ocr": "perhaps"},  # a field that is not what it should be
        {"do_chunking": "true", "ocr_engine": "nonexistent"},
        {"do_chunking": "true", "pdf_backend": "nonexistent"},
    ],
    ids=["type", "policy", "enum"],
)
async def test_a_refused_form_names_its_unknown_fields_too(
    tmp_path: Path, sent: dict[str, str]
) -> None:
    async with rest_server(tmp_path) as server:
        reply = await server.client.post("/v1/convert/file", files=UPLOAD, data=sent)
    assert reply.status_code == 422
    assert reply.headers["x-docling-ignored-fields"] == "do_chunking"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-Api-Key": "secret"}, 200),
        ({"Authorization": "Bearer secret"}, 200),
        ({"Authorization": "bearer  secret"}, 200),
        ({"Authorization": "Bearer secret", "X-Api-Key": "nobody-asked"}, 200),
        ({"Authorization": "Bearer nobody-asked", "X-Api-Key": "secret"}, 200),
        ({"Authorization": "Basic secret"}, 401),
        ({"Authorization": "secret"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Bearer wrong", "X-Api-Key": ""}, 401),
    ],
    ids=str,
)
async def test_the_key_may_come_as_bearer(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async with rest_server(tmp_path, api_key="secret") as server:
        sent = await server.client.post("/v1/convert/file", files=UPLOAD, headers=headers)
        asked = await server.client.get("/v1/tasks", headers=headers)
    assert (sent.status_code, asked.status_code) == (status, status)


@pytest.mark.parametrize(("count", "status"), [(2, 200), (3, 422)])
async def test_a_request_may_have_a_few_callbacks(tmp_path: Path, count: int, status: int) -> None:
    callbacks = [{"url": f"https://example.com/{number}"} for number in range(count)]
    body = {"sources": [SOURCE], "callbacks": callbacks}
    async with rest_server(tmp_path, max_callbacks_per_request=2) as server:
        reply = await server.client.post("/v1/convert/source", json=body)
        form = await server.client.post(
            "/v1/chunk/hybrid/file", files=UPLOAD, data={"callbacks": json.dumps(callbacks)}
        )
    assert (reply.status_code, form.status_code) == (status, status), reply.text + form.text
    if status == 422:
        assert reply.json()["detail"] == (
            "Too many callbacks: 3 exceeds the maximum of 2 (max_callbacks_per_request)."
        )
