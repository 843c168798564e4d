"""Other programs' APIs: what their requests become, and how errors look there."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from docling_serve.api.faces.pages import PAGE_BREAK
from docling_serve.errors import UNSUPPORTED_FORMAT, Failure
from tests.helpers.rest_server import rest_server

ALL: dict[str, Any] = {
    "enable_external_loader_api": True,
    "enable_tika_api": True,
    "enable_mistral_api": True,
}
CONVERTED = {
    "status": "success",
    "errors": [],
    "document": {
        "filename": "a.md",
        "md_content": f"# T\n\n{PAGE_BREAK}\n\nrest",
        "text_content": "T",
        "html_content": "<h1>T</h1>",
        "json_content": None,
    },
}
OCR = {"model": "any", "document": {"type": "document_url", "document_url": "data:text/markdown,x"}}


ROUTES = (
    "PUT /process",
    "PUT /tika",
    "PUT /tika/text",
    "PUT /rmeta/text",
    "PUT /meta",
    "POST /tika/form/text",
    "POST /rmeta/form",
    "POST /meta/form",
    "POST /v1/files",
    "GET /v1/files/x",
    "GET /v1/files/x/url",
    "GET /v1/files/x/content",
    "DELETE /v1/files/x",
    "POST /v1/ocr",
)


async def test_nothing_of_it_is_there_unless_it_is_turned_on(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        replies = [await server.client.request(*route.split()) for route in (*ROUTES, "GET /tika")]
        version = await server.client.get("/version", headers={"Accept": "text/plain"})
    assert {reply.status_code for reply in replies} == {404}
    assert version.json()["docling-serve"]


async def test_all_that_concerns_documents_asks_for_the_key(tmp_path: Path) -> None:
    async with rest_server(tmp_path, api_key="secret", **ALL) as server:
        refused = [await server.client.request(*route.split(), content=b"x") for route in ROUTES]
        open_to_all = await server.client.get("/tika")
    assert {reply.status_code for reply in refused} == {401}
    assert [reply.text for reply in refused if "Unauthorized" not in reply.text] == []
    assert open_to_all.status_code == 200


async def test_the_api_document_describes_them(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    async with rest_server(tmp_path, **ALL) as server:
        paths = (await server.client.get("/openapi.json")).json()["paths"]
    operations = [
        operation["operationId"] for each in paths.values() for operation in each.values()
    ]
    assert len(set(operations)) == len(operations)
    assert [w for w in recwarn if "Operation ID" in str(w.message)] == []
    described = [route.split() for route in ROUTES if route.split()[0] in ("PUT", "POST")]
    for method, path in described:
        named = paths.get(path) or paths[path.rpartition("/")[0] + "/{kind}"]
        assert "requestBody" in named[method.lower()], path


NAMED = [
    ("/process", {"X-Filename": "a%20b.md"}, "md"),
    ("/tika", {"Content-Disposition": 'attachment; filename="a b.md"'}, "text"),
    ("/tika/html", {"Content-Disposition": "attachment; filename=a b.md"}, "html"),
    ("/rmeta", {"Content-Disposition": "inline; filename=x; filename*=UTF-8''a%20b.md"}, "html"),
    ("/rmeta/text", {"Content-Disposition": "attachment; filename=b'a b.md'"}, "text"),
]


async def test_what_is_put_becomes_a_task_like_any_other(tmp_path: Path) -> None:
    async with rest_server(tmp_path, **ALL) as server:
        server.runner.reply = CONVERTED
        replies = [
            await server.client.put(path, content=b"# T", headers=sent) for path, sent, _ in NAMED
        ]
        jobs = server.runner.jobs
        assert server.runner.documents == [b"# T"] * len(NAMED)
    assert [reply.headers["x-docling-task-id"] for reply in replies] == [j.task_id for j in jobs]
    assert {reply.headers["cache-control"] for reply in replies} == {"no-store"}
    assert [job.sources[0].model_dump()["filename"] for job in jobs] == ["a b.md"] * len(NAMED)
    assert [job.options["to_formats"] for job in jobs] == [[kind] for _, _, kind in NAMED]
    assert {job.options["image_export_mode"] for job in jobs} == {"placeholder"}


UNNAMED = [
    (b"# T", "text/markdown; charset=utf-8", "document.md"),
    (b"%PDF-1.7 \0", "", "document.pdf"),
    (b"%PDF-1.7 \0", "application/octet-stream", "document.pdf"),
    (b"plain words", "", "document.txt"),
    (b" <html><p>T</p></html>", "", "document"),
    (b"\0\1", "application/x-unknown", "document"),
]


async def test_a_document_without_a_name_gets_one_that_shows_its_format(tmp_path: Path) -> None:
    async with rest_server(tmp_path, **ALL) as server:
        server.runner.reply = CONVERTED
        for content, content_type, _ in UNNAMED:
            headers = {"Content-Type": content_type}
            await server.client.put("/tika/text", content=content, headers=headers)
        names = [job.sources[0].model_dump()["filename"] for job in server.runner.jobs]
    assert names == [name for _, _, name in UNNAMED]


ANSWERS = [
    ("/tika", "*/*", "text/plain", "T"),
    ("/tika", "text/html", "text/html", "<h1>"),
    ("/tika", "application/json", "application/json", '{"'),
    ("/tika/text", "*/*", "application/json", '{"'),
    ("/tika/text", "text/plain", "text/plain", "T"),
    ("/rmeta/text", "*/*", "application/json", '[{"'),
]


async def test_tika_answers_as_it_is_asked(tmp_path: Path) -> None:
    async with rest_server(tmp_path, **ALL) as server:
        server.runner.reply = CONVERTED
        for path, accept, media_type, start in ANSWERS:
            reply = await server.client.put(path, content=b"# T", headers={"Accept": accept})
            assert reply.headers["content-type"].partition(";")[0] == media_type, path
            assert reply.text.startswith(start), path


async def test_the_version_is_text_for_those_who_ask_for_text(tmp_path: Path) -> None:
    async with rest_server(tmp_path, **ALL) as server:
        text = await server.client.get("/version", headers={"Accept": "text/plain"})
        as_ever = await server.client.get("/version")
    assert text.text.startswith("docling-serve ")
    assert as_ever.json()["docling-serve"] in text.text
    async with rest_server(tmp_path, show_version_info=False, **ALL) as server:
        hidden = await server.client.get("/version", headers={"Accept": "text/plain"})
    assert hidden.status_code == 403


FAILED = {**CONVERTED, "status": "failure", "errors": [{"error_message": "It is broken."}]}
UNSUPPORTED = Failure("policy", "No such format.", details={"reason": UNSUPPORTED_FORMAT})


@pytest.mark.parametrize(
    ("failure", "status", "text"),
    [(None, 422, "It is broken."), (UNSUPPORTED, 415, "No such format.")],
)
async def test_failures_have_the_shape_of_each_api(
    tmp_path: Path, failure: Failure | None, status: int, text: str
) -> None:
    async with rest_server(tmp_path, failure=failure, **ALL) as server:
        server.runner.reply = FAILED
        loader = await server.client.put("/process", content=b"x")
        tika = await server.client.put("/tika/text", content=b"x")
        mistral = await server.client.post("/v1/ocr", json=OCR)
    assert [reply.status_code for reply in (loader, tika, mistral)] == [status] * 3
    assert loader.json() == {"detail": text}
    assert tika.headers["content-type"].startswith("text/plain")
    assert tika.text == text
    assert mistral.json()["object"] == "error"
    assert mistral.json()["message"] == text


async def test_limits_hold_for_what_is_put(tmp_path: Path) -> None:
    async with rest_server(tmp_path, max_upload_size=100, max_json_size=10, **ALL) as server:
        server.runner.reply = CONVERTED
        fits = await server.client.put("/tika", content=b"x" * 100)
        announced = await server.client.put("/tika", content=b"x" * 101)
        sent = await server.client.put("/tika", content=_pieces())
        packed = await server.client.put(
            "/tika", content=b"x", headers={"Content-Encoding": "gzip"}
        )
    assert fits.status_code == 200
    assert announced.status_code == sent.status_code == 413
    assert "max_upload_size" in sent.text
    assert packed.status_code == 415


async def test_a_file_that_goes_during_a_request_is_not_there(tmp_path: Path) -> None:
    async with rest_server(tmp_path, **ALL) as server:
        uploaded = await server.client.post("/v1/files", files={"file": ("a.md", b"# T")})
        file_id = uploaded.json()["id"]
        server.services.files.find("default", file_id).path.unlink()
        reference = {"document": {"type": "file", "file_id": file_id}}
        replies = [
            await server.client.post("/v1/ocr", json=reference),
            await server.client.get(f"/v1/files/{file_id}/content"),
        ]
    assert [reply.status_code for reply in replies] == [404, 404]
    assert [reply.json()["object"] for reply in replies] == ["error", "error"]


@pytest.mark.parametrize("path", ["/process", "/tika", "/meta", "/rmeta/text"])
async def test_an_empty_body_is_no_document(tmp_path: Path, path: str) -> None:
    async with rest_server(tmp_path, **ALL) as server:
        reply = await server.client.put(path, content=b"")
    assert reply.status_code == 422
    assert "The body is empty" in reply.text


async def test_a_wrong_method_names_all_right_ones(tmp_path: Path) -> None:
    async with rest_server(tmp_path, **ALL) as server:
        for path, methods in (("/meta/form", "POST, PUT"), ("/v1/files/x", "DELETE, GET")):
            reply = await server.client.options(path)
            assert (reply.status_code, reply.headers["allow"]) == (405, methods)


async def test_the_api_document_has_the_errors_in_the_shape_of_each_api(tmp_path: Path) -> None:
    async with rest_server(tmp_path, **ALL) as server:
        paths = (await server.client.get("/openapi.json")).json()["paths"]
    text = {"text/plain": {"schema": {"type": "string"}}}
    tika, mistral = paths["/tika"]["put"]["responses"], paths["/v1/ocr"]["post"]["responses"]
    assert tika["422"]["content"] == tika["504"]["content"] == text
    # The key and the size are checked before a route is chosen.
    for status in ("401", "413"):
        assert tika[status]["content"].keys() == {"text/plain", "application/json"}
    assert set(tika["200"]["content"]) == {"application/json", "text/plain", "text/html"}
    assert mistral["422"]["content"]["application/json"]["schema"]["title"] == "MistralError"
    assert len(mistral["413"]["content"]["application/json"]["schema"]["anyOf"]) == 2
    assert "422" in paths["/meta"]["put"]["responses"]


async def _pieces() -> Any:
    for _ in range(20):
        yield b"x" * 10


async def test_a_full_queue_is_told_with_a_time_to_come_back(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True, eng_loc_max_queued_tasks=1, **ALL) as server:
        for _ in range(2):  # one runs, one waits
            await server.client.post("/v1/convert/file/async", files=[("files", ("a.md", b"# T"))])
            if not server.runner.jobs:
                await server.runner.begun.get()
        reply = await server.client.post("/v1/ocr", json=OCR)
        server.runner.gate.set()
    assert reply.status_code == 429
    assert int(reply.headers["retry-after"]) > 0
    assert reply.json()["object"] == "error"


async def test_a_form_has_one_file(tmp_path: Path) -> None:
    files = [("one", ("a.md", b"# T")), ("two", ("b.md", b"# T"))]
    async with rest_server(tmp_path, **ALL) as server:
        two = await server.client.post("/tika/form/text", files=files)
        none = await server.client.post("/tika/form/text", data={"a": "b"})
    assert two.status_code == none.status_code == 422
    assert "one file" in two.text


@pytest.mark.parametrize(
    ("document", "name", "content"),
    [
        ({"document_url": "data:text/markdown,%23%20T"}, "document.md", b"# T"),
        (
            {
                "document_url": "data:;base64," + base64.b64encode(b"# T").decode(),
                "document_name": "n.md",
            },
            "n.md",
            b"# T",
        ),
        ({"image_url": {"url": "data:image/png,x"}}, "document.png", b"x"),
    ],
)
async def test_ocr_takes_documents_in_the_request(
    tmp_path: Path, document: dict[str, Any], name: str, content: bytes
) -> None:
    async with rest_server(tmp_path, **ALL) as server:
        server.runner.reply = CONVERTED
        reply = await server.client.post("/v1/ocr", json={"model": "m", "document": document})
        (job,) = server.runner.jobs
        assert server.runner.documents == [content]
    assert reply.status_code == 200, reply.text
    assert reply.json()["pages"][0]["markdown"] == "# T\n\nrest"
    assert job.sources[0].model_dump()["filename"] == name
    assert job.options["to_formats"] == ["md", "json"]


async def test_ocr_has_documents_elsewhere_fetched_by_the_worker(tmp_path: Path) -> None:
    document = {"document_url": "https://example.com/a.pdf"}
    async with rest_server(tmp_path, **ALL) as server:
        server.runner.reply = CONVERTED
        await server.client.post("/v1/ocr", json={"model": "m", "document": document})
        (job,) = server.runner.jobs
    assert job.sources[0].model_dump() == {
        "kind": "http",
        "url": "https://example.com/a.pdf",
        "headers": {},
    }


async def test_ocr_asks_for_the_pages_that_are_wanted(tmp_path: Path) -> None:
    async with rest_server(tmp_path, **ALL) as server:
        server.runner.reply = CONVERTED
        for pages in ([0], "0-2", "4, 1-2", [], None):
            await server.client.post("/v1/ocr", json={**OCR, "pages": pages})
        ranges = [job.options["page_range"] for job in server.runner.jobs]
    assert ranges[:3] == [[1, 1], [1, 3], [2, 5]]
    assert ranges[3] == ranges[4] != [1, 1]


REFUSED = [
    {**OCR, "pages": "one"},
    {**OCR, "pages": [-1]},
    {**OCR, "pages": "0-99999999"},
    {**OCR, "pages": ",".join(["0-9999"] * 100)},
    {**OCR, "bbox_annotation_format": {"type": "json_schema"}},
    {"model": "m", "document": {"document_url": "ftp://example.com/a.pdf"}},
    {"model": "m", "document": {"document_url": "data:text/plain"}},
    {"model": "m", "document": {"document_url": "data:a/b;base64,!!"}},
    {"model": "m", "document": {}},
    {"model": "m"},
]


async def test_what_ocr_cannot_serve_is_refused_as_mistral_does(tmp_path: Path) -> None:
    async with rest_server(tmp_path, **ALL) as server:
        replies = [await server.client.post("/v1/ocr", json=asked) for asked in REFUSED]
        assert server.runner.jobs == []
    for asked, reply in zip(REFUSED, replies, strict=True):
        assert reply.status_code == 422, asked
        error = reply.json()
        assert error["object"] == "error"
        assert error["detail"][0]["msg"] == error["message"]
