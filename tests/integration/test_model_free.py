"""The default configuration, where models would come from a hub, and no hub to be had.

Every model load fails on these servers, so a document that converts did not need one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import MODES, StartServer
from tests.helpers.api import SLIP, base64_source, missing_phrases, upload
from tests.helpers.eventually import eventually
from tests.helpers.server import RunningServer

CSV = b"Harbour,Depth\nNorth pier,7\nSouth pier,12\n"
ASCIIDOC = b"= Harbour log\n\n== Spring\n\nThe beacon was painted twice.\n"
JSON_DOCUMENT = b"""{"schema_name": "DoclingDocument", "version": "1.0.0", "name": "log",
"body": {"self_ref": "#/body", "children": [{"$ref": "#/texts/0"}]},
"texts": [{"self_ref": "#/texts/0", "parent": {"$ref": "#/body"}, "label": "text",
"orig": "The beacon was painted twice.", "text": "The beacon was painted twice."}]}"""


@pytest.fixture(scope="module")
def bare_server(mode: str, serve: StartServer) -> Iterator[RunningServer]:
    """No profile, no weights, no network."""
    with serve(MODES[mode], config=None) as running:
        yield running


@pytest.mark.parametrize("name", ["notes.md", "page.html", "letter.docx"])
def test_a_document_that_needs_no_model_converts(bare_server: RunningServer, name: str) -> None:
    reply = bare_server.api.convert(upload(name))

    assert reply.status_code == 200, reply.text
    assert reply.json()["status"] == "success"
    assert missing_phrases(name, reply.json()["document"]["md_content"]) == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("depths.csv", CSV, "South pier"),
        ("log.adoc", ASCIIDOC, "painted twice"),
        ("log.json", JSON_DOCUMENT, "painted twice"),
    ],
)
def test_a_small_format_needs_no_model(
    bare_server: RunningServer, name: str, content: bytes, words: str
) -> None:
    reply = bare_server.api.convert_source(base64_source(name, content))

    assert reply.status_code == 200, reply.text
    assert reply.json()["status"] == "success"
    assert words in reply.json()["document"]["md_content"]


def test_a_missing_model_is_named_and_so_is_the_way_out(bare_server: RunningServer) -> None:
    reply = bare_server.api.convert(upload(SLIP))

    assert 400 <= reply.status_code < 600
    assert says_how_to_get_models(reply.json()["detail"])
    assert reply.json()["failure"]["message"] == reply.json()["detail"]


def test_a_task_that_lacks_a_model_fails_with_the_same_words(bare_server: RunningServer) -> None:
    task = bare_server.api.submit(upload("scan.pdf"))
    status = bare_server.api.finish(task)
    result = bare_server.api.result(task)

    assert status["task_status"] == "failure"
    assert says_how_to_get_models(status["error_message"])
    assert result.json()["kind"] == "TaskFailureResult"
    assert result.json()["failure"] == status["failure"]
    assert status["failure"]["message"] == status["error_message"]


def says_how_to_get_models(text: str) -> bool:
    """The model's name, how to download it, and the profile that works without."""
    return (
        "docling-project/" in text
        and "docling-tools models download" in text
        and "examples/embedded.yaml" in text
    )


def test_a_document_without_models_converts_after_one_that_failed(
    bare_server: RunningServer,
) -> None:
    tasks = [bare_server.api.submit(upload(name)) for name in (SLIP, "notes.md")]

    states = [bare_server.api.finish(task)["task_status"] for task in tasks]

    assert states == ["failure", "success"]


def test_an_address_on_this_machine_is_not_fetched(bare_server: RunningServer) -> None:
    """Without an exception for it, a client cannot make the server read its own network."""
    url = f"{bare_server.url}/health"
    body = bare_server.api.convert_source({"kind": "http", "url": url}).json()

    assert body["status"] == "failure"
    assert body["errors"][0]["category"] == "source_unavailable"
    assert "not allowed" in body["errors"][0]["error_message"]


def test_readiness_says_which_model_is_missing(start_server: StartServer) -> None:
    """Loading at boot fails; the server still answers, and converts what needs no model."""
    settings = {
        "DOCLING_SERVE_USE_SUBPROCESS": "false",
        "DOCLING_SERVE_LOAD_MODELS_AT_BOOT": "true",
    }
    server = start_server(settings, config=None, probe="/health")
    reply = server.api.convert(upload("notes.md"))

    def readiness() -> str:
        ready = server.api.get("/ready")
        assert ready.status_code == 503
        return str(ready.json()["detail"])

    assert reply.json()["status"] == "success"
    eventually(lambda: "Models could not be loaded" in readiness(), within_s=60)
    assert "examples/embedded.yaml" in readiness()
