"""Real documents through the REST interface. Every test runs in both modes: where a conversion
runs must not show in what the API answers."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.conftest import RESULT_REMOVAL_DELAY_S
from tests.helpers.api import (
    DOCUMENTS,
    EXPECTED,
    PHRASES,
    SLIP,
    base64_source,
    missing_phrases,
    upload,
)
from tests.helpers.eventually import eventually
from tests.helpers.server import RunningServer

NOT_FOUND = {"detail": "Task not found."}  # upstream G67


@pytest.mark.parametrize("name", EXPECTED)
def test_an_upload_is_answered_with_its_text(server: RunningServer, name: str) -> None:
    reply = server.api.convert(upload(name))

    assert reply.status_code == 200, reply.text
    body = reply.json()
    assert body["status"] == "success"
    assert body["errors"] == []
    assert body["document"]["filename"] == name
    assert missing_phrases(name, body["document"]["md_content"]) == []
    assert body["document"]["json_content"] is None, "only what was asked for"


def test_a_task_is_waited_for_in_one_poll_and_its_result_read_twice(server: RunningServer) -> None:
    task = server.api.submit(upload(SLIP))
    status = server.api.poll(task, wait_s=100)
    first, second = server.api.result(task), server.api.result(task)

    assert status["task_status"] == "success"
    assert status["task_position"] is None
    assert status["task_meta"]["num_succeeded"] == 1
    assert missing_phrases(SLIP, first.json()["document"]["md_content"]) == []
    assert second.json() == first.json()


def test_a_result_is_gone_some_time_after_it_was_fetched(server: RunningServer) -> None:
    """The setting under test is RESULT_REMOVAL_DELAY (upstream G70)."""
    fetched, kept = (server.api.submit(upload("notes.md")) for _ in range(2))
    for task in (fetched, kept):
        server.api.finish(task)
    server.api.result(fetched)

    eventually(
        lambda: server.api.result(fetched).status_code == 404,
        within_s=10 * RESULT_REMOVAL_DELAY_S,
    )
    assert server.api.result(fetched).json() == NOT_FOUND
    assert server.api.get(f"/v1/status/poll/{fetched}").json() == NOT_FOUND
    assert server.api.result(kept).status_code == 200, "nobody had fetched it"


def test_several_tasks_are_all_converted(server: RunningServer) -> None:
    names = ["notes.md", SLIP, "page.html", "letter.docx"]
    tasks = {name: server.api.submit(upload(name)) for name in names}

    for name, task in tasks.items():
        text = server.api.succeed(task)["document"]["md_content"]
        assert missing_phrases(name, text) == []


@pytest.mark.parametrize("name", [SLIP, "letter.docx"])
def test_a_base64_source_is_answered_with_its_text(server: RunningServer, name: str) -> None:
    reply = server.api.convert_source(base64_source(name))

    assert reply.status_code == 200, reply.text
    assert missing_phrases(name, reply.json()["document"]["md_content"]) == []


def test_a_base64_source_can_be_a_task(server: RunningServer) -> None:
    reply = server.api.http.post(
        "/v1/convert/source/async", json={"sources": [base64_source("notes.md")]}
    )

    body = server.api.succeed(reply.json()["task_id"])

    assert missing_phrases("notes.md", body["document"]["md_content"]) == []


@pytest.fixture(scope="module")
def web_server() -> Iterator[str]:
    """Serves the example documents over HTTP on this machine."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(DOCUMENTS))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()
        thread.join()


def test_an_address_is_fetched_and_converted(server: RunningServer, web_server: str) -> None:
    source = {"kind": "http", "url": f"{web_server}/page.html"}
    reply = server.api.convert_source(source)

    assert reply.status_code == 200, reply.text
    assert missing_phrases("page.html", reply.json()["document"]["md_content"]) == []


def test_several_files_come_back_as_one_zip(server: RunningServer) -> None:
    names = [SLIP, "notes.md", "page.html"]
    reply = server.api.convert(*map(upload, names))

    texts = unzipped(reply)
    assert sorted(texts) == ["notes.md", "page.md", "slip.md"]
    for name in names:
        assert missing_phrases(name, texts[f"{name.split('.')[0]}.md"]) == []


def test_documents_of_the_same_name_are_all_in_the_zip(server: RunningServer) -> None:
    """Better than upstream F60."""
    named = [("a.md", b"# first"), ("a.html", b"<h1>second</h1>"), ("a.md", b"# third")]
    texts = unzipped(server.api.convert(*(upload(name, content) for name, content in named)))

    assert sorted(texts) == ["a-2.md", "a-3.md", "a.md"]
    assert "first" in texts["a.md"]
    assert "second" in texts["a-2.md"]
    assert "third" in texts["a-3.md"]


def test_chunks_that_cannot_be_made_are_a_failure_that_says_why(server: RunningServer) -> None:
    """Better than upstream J91."""
    reply = server.api.http.post("/v1/chunk/hybrid/file", files=[upload("notes.md")])

    assert reply.status_code == 422
    assert (
        "tokenizer sentence-transformers/all-MiniLM-L6-v2 could not be loaded"
        in reply.json()["detail"]
    )
    assert "hierarchical" in reply.json()["detail"]


def test_one_file_comes_back_as_a_zip_when_asked_for(server: RunningServer) -> None:
    form = {"target_type": "zip", "to_formats": ["md", "json", "text"]}
    reply = server.api.convert(upload("letter.docx"), form=form)

    texts = unzipped(reply)
    assert sorted(texts) == ["letter.json", "letter.md", "letter.txt"]
    assert missing_phrases("letter.docx", texts["letter.txt"]) == []


def test_a_zip_can_be_the_result_of_a_task(server: RunningServer) -> None:
    task = server.api.submit(upload("notes.md"), form={"target_type": "zip"})
    server.api.finish(task)

    assert list(unzipped(server.api.result(task))) == ["notes.md"]


@pytest.mark.parametrize("name", [SLIP, "page.html"])
def test_all_formats_asked_for_come_in_one_body(server: RunningServer, name: str) -> None:
    form = {"to_formats": ["md", "json", "text", "html"]}
    body = server.api.convert(upload(name), form=form).json()

    document = body["document"]
    for content in ("md_content", "text_content", "html_content"):
        assert missing_phrases(name, document[content]) == [], content
    assert document["json_content"]["schema_name"] == "DoclingDocument"
    joined = " ".join(text["text"] for text in document["json_content"]["texts"])
    assert PHRASES[name][0] in joined
    assert document["doctags_content"] is None


def test_only_the_pages_asked_for_are_read(server: RunningServer) -> None:
    body = server.api.convert(upload("scan.pdf"), form={"page_range": ["2", "2"]}).json()

    text = body["document"]["md_content"]
    assert "barometer" in text
    assert "Lighthouse Library" not in text
    assert "Brass telescope" not in text


@pytest.mark.parametrize(
    ("asked", "given"), [("1.8.0", "1.8.0"), ("1.5.0", "1.5.0"), ("99.0.0", "1.10.0")]
)
def test_the_document_has_the_version_a_client_reads(
    server: RunningServer, asked: str, given: str
) -> None:
    """Upstream D38."""
    form = {"to_formats": "json"}
    now = server.api.convert(upload("notes.md"), form=form, Accept_Docling_Document_Version=asked)
    task = server.api.submit(upload("notes.md"), form=form, Accept_Docling_Document_Version=asked)

    assert now.json()["document"]["json_content"]["version"] == given
    assert server.api.succeed(task)["document"]["json_content"]["version"] == given


@pytest.mark.parametrize("asked", ["1.4.0", "abc", ""])
def test_a_document_version_that_cannot_be_given_is_refused(
    server: RunningServer, asked: str
) -> None:
    reply = server.api.convert(upload("notes.md"), Accept_Docling_Document_Version=asked)

    assert reply.status_code == 422
    assert "Accept-Docling-Document-Version" in reply.json()["detail"]


def unzipped(reply: httpx.Response) -> dict[str, str]:
    """The files in a zip reply."""
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/zip"
    disposition = reply.headers["content-disposition"]
    assert disposition == 'attachment; filename="converted_docs.zip"'  # upstream F58
    with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}
