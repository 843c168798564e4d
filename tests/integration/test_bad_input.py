"""What cannot be converted is refused with its cause, in both modes, and leaves no file behind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.conftest import MAX_FILE_SIZE
from tests.helpers import documents
from tests.helpers.api import SLIP, base64_source, document, missing_phrases, upload
from tests.helpers.eventually import eventually
from tests.helpers.server import RunningServer

_REPLY_ONLY = re.compile(r"[0-9a-f-]{36}/result\.body")
TOO_LARGE = b"a" * (MAX_FILE_SIZE + 1)


@pytest.fixture(autouse=True)
def scratch_check(server: RunningServer) -> Iterator[None]:
    """Afterwards only replies are in scratch, and once those are cleared nothing is."""
    yield
    left = [name for name in server.scratch_files() if not _REPLY_ONLY.fullmatch(name)]
    assert left == []
    server.api.get("/v1/clear/results", older_then=0)
    eventually(lambda: server.scratch_files() == [], within_s=30, what="scratch is empty")


@pytest.mark.parametrize(
    ("name", "content", "status", "category", "cause"),
    [
        ("empty.pdf", b"", "failure", "backend_failure", "empty.pdf is empty."),
        ("empty.png", b"", "skipped", "policy", "empty.png is empty."),
        ("empty.docx", b"", "failure", "backend_failure", "empty.docx is empty."),
        ("broken.pdf", documents.broken_pdf(), "failure", "backend_failure", "is damaged"),
        ("locked.pdf", documents.encrypted_pdf(), "failure", "backend_failure", "is encrypted"),
        ("model.xyz", b"zzz", "skipped", "policy", "File format not allowed: model.xyz"),
        ("large.md", TOO_LARGE, "failure", "policy", f"limit of {MAX_FILE_SIZE} bytes"),
    ],
)
def test_a_document_that_cannot_be_read_is_answered_with_its_cause(
    server: RunningServer, name: str, content: bytes, status: str, category: str, cause: str
) -> None:
    """Upstream E47, E48, E50, F53."""
    reply = server.api.convert(upload(name, content))

    assert reply.status_code == 200
    body = reply.json()
    assert body["status"] == status
    assert body["document"]["md_content"] is None
    (error,) = body["errors"]
    assert error["category"] == category
    assert cause in error["error_message"]


def test_an_empty_text_is_an_empty_document(server: RunningServer) -> None:
    """Upstream E48."""
    body = server.api.convert(upload("empty.md", b"")).json()
    assert server.api.convert_source(base64_source("empty.md", b"")).json()["document"] == {
        **body["document"]
    }

    assert body["status"] == "success"
    assert body["document"]["md_content"] == ""


def test_an_image_named_pdf_is_read_as_what_it_is(server: RunningServer) -> None:
    """Upstream E47."""
    body = server.api.convert(upload("scan.pdf", document(SLIP))).json()

    assert body["status"] == "success"
    assert missing_phrases(SLIP, body["document"]["md_content"]) == []


def test_pages_beyond_the_end_are_a_failure_that_tells_the_number(server: RunningServer) -> None:
    """Upstream E51."""
    body = server.api.convert(upload("scan.pdf"), form={"page_range": ["7", "9"]}).json()

    assert body["status"] == "failure"
    assert body["errors"][0]["category"] == "policy"
    assert "3 pages" in body["errors"][0]["error_message"]


def test_an_address_that_does_not_answer_is_a_failure_that_names_it(server: RunningServer) -> None:
    """Upstream E43."""
    source = {"kind": "http", "url": "http://127.0.0.1:1/x.pdf"}
    body = server.api.convert_source(source).json()

    assert body["status"] == "failure"
    assert body["errors"][0]["category"] == "source_unavailable"
    assert "127.0.0.1" in body["errors"][0]["error_message"]


@pytest.mark.parametrize(
    ("form", "where"),
    [
        ({"to_formats": "nonsense"}, "to_formats"),
        ({"image_export_mode": "nonsense"}, "image_export_mode"),
        ({"do_ocr": "perhaps"}, "do_ocr"),
        ({"page_range": ["3", "1"]}, "page_range"),
        ({"ocr_preset": "nonsense"}, "nonsense"),
        ({"layout_preset": "nonsense"}, "nonsense"),
        ({"target_type": "nonsense"}, "target_type"),
    ],
)
def test_an_unknown_option_value_is_refused(
    server: RunningServer, form: Mapping[str, Any], where: str
) -> None:
    """Upstream D27, D29."""
    reply = server.api.convert(upload("notes.md"), form=form)

    assert reply.status_code == 422
    assert where in reply.text


def test_an_unknown_option_is_ignored(server: RunningServer) -> None:
    """Upstream A7."""
    reply = server.api.convert(upload("notes.md"), form={"no_such_option": "1"})

    assert reply.status_code == 200
    assert reply.json()["status"] == "success"


@pytest.mark.parametrize("text", ["!!!!", "QUJ", "data:text/plain;base64,QUJD"])
def test_what_is_not_base64_is_refused_at_its_place(server: RunningServer, text: str) -> None:
    source = {**base64_source("notes.md"), "base64_string": text}
    reply = server.api.convert_source(base64_source("page.html"), source)

    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["body", "sources", 1, "file", "base64_string"]


def test_too_many_files_are_refused(server: RunningServer) -> None:
    """Upstream D29."""
    reply = server.api.convert(*[upload(f"{number}.md", b"# Tide") for number in range(4)])

    assert reply.status_code == 422
    assert reply.json() == {"detail": "Too many files: 4 exceeds the maximum of 3."}


def test_a_request_without_files_is_refused(server: RunningServer) -> None:
    reply = server.api.http.post("/v1/convert/file", data={"to_formats": "md"})

    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["body", "files"]


def test_a_bad_document_does_not_spoil_the_others(server: RunningServer) -> None:
    reply = server.api.convert(upload("notes.md"), upload("model.xyz", b"zzz"))

    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/zip"


def test_a_task_that_may_not_skip_a_bad_document_fails_with_its_cause(
    server: RunningServer,
) -> None:
    task = server.api.submit(upload("model.xyz", b"zzz"), form={"abort_on_error": "true"})
    status = server.api.finish(task)
    result = server.api.result(task).json()

    assert status["task_status"] == "failure"
    assert "File format not allowed: model.xyz" in status["error_message"]
    assert result["kind"] == "TaskFailureResult"
    assert result["failure"] == status["failure"]


def test_a_zip_of_nothing_is_a_failure_that_tells_the_cause(server: RunningServer) -> None:
    reply = server.api.convert(upload("model.xyz", b"zzz"), form={"target_type": "zip"})

    assert 400 <= reply.status_code < 500
    assert "model.xyz" in reply.json()["detail"]


def test_a_task_that_is_not_known_is_not_found(server: RunningServer) -> None:
    """Upstream G67."""
    for path in ("/v1/status/poll/none", "/v1/result/none"):
        reply = server.api.get(path)
        assert reply.status_code == 404
        assert reply.json() == {"detail": "Task not found."}


def test_a_language_without_a_model_is_a_mistake_of_the_request(server: RunningServer) -> None:
    reply = server.api.convert(upload(SLIP), form={"ocr_lang": "zzz"})

    assert reply.status_code == 422, reply.text
    assert reply.json()["failure"]["category"] == "policy"
    assert reply.json()["detail"].startswith("ocr_lang: RapidOCR")
    assert "iso:de" in reply.json()["detail"], "what can be asked for is said"


@pytest.mark.parametrize("languages", ["en,de", "en, de"])
def test_languages_may_be_joined_by_commas(server: RunningServer, languages: str) -> None:
    by_form = server.api.convert(upload(SLIP), form={"ocr_lang": languages})
    by_json = server.api.convert_source(base64_source(SLIP), options={"ocr_lang": [languages]})

    for reply in (by_form, by_json):
        assert reply.status_code == 200, reply.text
        assert missing_phrases(SLIP, reply.json()["document"]["md_content"]) == []
