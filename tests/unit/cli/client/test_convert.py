"""``docling-serve convert``, against a scripted server."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.eventually import eventually
from tests.helpers.process_ends import ROOT, python
from tests.unit.cli.client.scripted_server import (
    DONE,
    FAILED,
    RUNNING,
    WAITING,
    Script,
    invoke,
)


def test_a_file_is_converted(url: str, script: Script, document: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--output", str(out), "--option", "force_ocr=true", "--api-key", "k"]
    ran = invoke("convert", document, "--url", url, *words)

    assert ran.exit_code == 0, ran.output
    assert (out / "a.md").read_text() == "# T"
    assert b'name="force_ocr"' in script.bodies[0]
    assert {headers["X-Api-Key"] for headers in script.headers} == {"k"}


def test_options_that_come_again_are_lists_and_the_document_is_asked_for(
    url: str, script: Script, document: str
) -> None:
    words = ["--option", "ocr_lang=en", "--option", "ocr_lang=de"]
    invoke("convert", document, "--url", url, *words)

    assert script.bodies[0].count(b'name="ocr_lang"') == 2
    assert b'name="target_type"\r\n\r\ninbody' in script.bodies[0]


def test_the_usual_options_have_flags(url: str, script: Script, document: str) -> None:
    invoke("convert", document, "--url", url, "--no-ocr", "--force-ocr", "--pages", "2-5")

    for field, value in (("do_ocr", "false"), ("force_ocr", "true"), ("page_range", "5")):
        assert f'name="{field}"\r\n\r\n{value}\r\n'.encode() in script.bodies[0]


def test_a_url_is_fetched_by_the_server(url: str, script: Script) -> None:
    ran = invoke(
        "convert", "https://h/a%20b.pdf?k=1", "--url", url, "-O", "ocr_lang=en,de", "-t", "md,json"
    )

    assert ran.exit_code == 0, ran.output
    assert script.calls[0] == "POST /v1/convert/source/async"
    assert json.loads(script.bodies[0]) == {
        "sources": [{"kind": "http", "url": "https://h/a%20b.pdf?k=1"}],
        "options": {"ocr_lang": ["en", "de"], "to_formats": ["md", "json"]},
        "target": {"kind": "inbody"},
    }


def test_standard_input_is_a_document(url: str, script: Script) -> None:
    ran = invoke("convert", "-", "--name", "p.html", "--url", url, input=b"<p>x")

    assert ran.exit_code == 0, ran.output
    assert b'filename="p.html"' in script.bodies[0]
    assert b"<p>x" in script.bodies[0]


def test_a_single_result_can_be_named(url: str, document: str, tmp_path: Path) -> None:
    out = tmp_path / "there" / "b.md"

    assert invoke("convert", document, "--url", url, "-o", str(out)).exit_code == 0
    assert out.read_text() == "# T"
    refused = invoke("convert", document, document, "--url", url, "-o", str(out))
    assert refused.exit_code == 2


def test_a_line_of_json_for_each_document(url: str, document: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = invoke("convert", document, "--url", url, "--json", "--quiet", "-o", str(out))

    assert ran.stderr == ""
    assert json.loads(ran.stdout) == {
        "source": document,
        "task_id": "t1",
        "status": "success",
        "error": None,
        "waited_s": 0.5,
        "converted_s": 2.0,
        "files": [str(out / "a.md")],
    }
    bare = json.loads(invoke("convert", document, "--url", url, "--json", "-q").stdout)
    assert bare["document"] == {"md_content": "# T"}


def test_a_full_queue_is_waited_for(url: str, script: Script, document: str) -> None:
    script.refusals = 2
    ran = invoke("convert", document, "--url", url)

    assert ran.exit_code == 0, ran.output
    assert len(script.bodies) == 3


@pytest.mark.parametrize("result", [{}, {"status": "failure", "errors": []}])
def test_no_document_is_no_success(
    url: str, script: Script, document: str, result: dict[str, Any]
) -> None:
    script.result = result
    ran = invoke("convert", document, "--url", url)

    assert ran.exit_code == 1
    assert "no document came back" in ran.output


def test_without_a_folder_the_text_is_printed(url: str, document: str) -> None:
    assert "# T\n" in invoke("convert", document, "--url", url).stdout


def test_a_broken_connection_is_made_anew(url: str, script: Script, document: str) -> None:
    script.streams = [WAITING, RUNNING, DONE]

    assert invoke("convert", document, "--url", url).exit_code == 0
    asked = [headers["Last-Event-ID"] for headers in script.headers if "Last-Event-ID" in headers]
    assert asked == ["1", "2"]


def test_a_failed_task_is_shown_as_failed(url: str, script: Script, document: str) -> None:
    script.streams = [FAILED]
    script.result = {"kind": "TaskFailureResult"}
    ran = invoke("convert", document, "--url", url)

    assert ran.exit_code == 1
    assert f"{document}: failed: Too slow." in ran.output


def test_each_failed_document_is_reported(url: str, script: Script, document: str) -> None:
    script.result = {
        "status": "failure",
        "errors": [{"error_message": "It is broken."}],
        "document": {"md_content": None},
    }
    ran = invoke("convert", document, document, "--url", url, "--json", "-q")

    assert ran.exit_code == 1
    assert [json.loads(line)["error"] for line in ran.stdout.splitlines()] == ["It is broken."] * 2


def test_a_refusal_is_one_line(url: str, script: Script, document: str) -> None:
    script.submit_status = 401
    ran = invoke("convert", document, "--url", url, "-q")

    assert ran.exit_code == 1
    assert ran.output == (
        f"{document}: failed: no Pass the server's key as --api-key or DOCLING_SERVE_API_KEY.\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "docx"], "choose from md, json"),
        (["--option", "force_ocr"], "is not name=value"),
        (["--option", "froce_ocr=1"], "did you mean force_ocr?"),
        (["--pages", "two"], "is not a page or range"),
        (["nowhere.pdf"], "is not a file, folder or URL"),
    ],
)
def test_a_wrong_word_is_refused_before_anything_is_sent(
    document: str, words: list[str], said: str
) -> None:
    ran = invoke("convert", document, *words)
    text = " ".join(ran.output.replace("│", " ").split())

    assert ran.exit_code == 2
    assert said in text


#: A shell starts background jobs with SIGINT ignored, which would hold for the command too.
_WITH_SIGINT = """
import signal
from docling_serve.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


def test_ctrl_c_asks_the_server_to_stop_the_task(url: str, script: Script, document: str) -> None:
    script.holds = threading.Event()
    command = [*python("-c", _WITH_SIGINT), "convert", document, "--url", url]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as running:
        try:
            eventually(lambda: "GET /v1/tasks/t1/events" in script.calls, within_s=60)
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=300)
        finally:
            running.kill()
            script.holds.set()

    assert running.returncode == 130
    assert "DELETE /v1/tasks/t1" in script.calls
    assert "asked the server to stop task t1" in said
