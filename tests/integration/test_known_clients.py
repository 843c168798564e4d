"""The ways in which programs that deployments know call the server, each as it does it.

docling's own client has a file of its own.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.helpers.api import SLIP, document, missing_phrases
from tests.helpers.server import RunningServer

PNG, DOCX, MD = (
    "image/png",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "text/markdown",
)

#: What Open WebUI sends beside the file, by its version; ``requests`` writes booleans as Python
#: does. The newer one sends what its administrator has typed in as JSON.
OPEN_WEBUI = {
    "first": {
        "image_export_mode": "placeholder",
        "table_mode": "accurate",
    },
    "pictures": {
        "image_export_mode": "placeholder",
        "table_mode": "accurate",
        "include_images": "false",
        "do_picture_description": "false",
        "do_picture_classification": "false",
        "force_ocr": "false",
    },
    "languages": {
        "image_export_mode": "placeholder",
        "do_ocr": "True",
        "force_ocr": "False",
        "ocr_engine": "rapidocr",
        "ocr_lang": ["english"],
        "pdf_backend": "dlparse_v4",
        "table_mode": "accurate",
        "pipeline": "standard",
    },
    "typed in": {
        "image_export_mode": "placeholder",
        "do_ocr": "True",
        "to_formats": ["md"],
        "page_range": ["1", "3"],
        "md_page_break_placeholder": "",
    },
}


@pytest.mark.parametrize("form", OPEN_WEBUI.values(), ids=OPEN_WEBUI)
@pytest.mark.parametrize(("name", "media_type"), [("letter.docx", DOCX), ("notes.md", MD)])
def test_open_webui(
    server: RunningServer, form: dict[str, Any], name: str, media_type: str
) -> None:
    """Its file names are whole paths of its own uploads, and it reads one field of the answer."""
    path = f"/app/backend/data/uploads/4a9d2f56-0b5a_{name}"
    reply = httpx.post(
        f"{server.url}/v1/convert/file",
        files={"files": (path, document(name), media_type)},
        data=form,
        headers={"X-Api-Key": "nobody-asked", "Authorization": "Bearer nobody-asked"},
        timeout=100,
        trust_env=False,
    )

    assert reply.is_success, reply.text
    told = reply.json()["document"]
    assert missing_phrases(name, told["md_content"]) == []
    assert told["filename"] == f"4a9d2f56-0b5a_{name}"


def test_open_webui_with_a_scan(server: RunningServer) -> None:
    reply = server.api.http.post(
        "/v1/convert/file",
        files={"files": ("/app/backend/data/uploads/scan.png", document(SLIP), PNG)},
        data=OPEN_WEBUI["languages"],
    )

    assert reply.is_success, reply.text
    assert missing_phrases(SLIP, reply.json()["document"]["md_content"]) == []


def test_open_webui_is_told_why_a_description_of_pictures_cannot_be_had(
    server: RunningServer,
) -> None:
    """It shows ``detail`` of the answer to its user."""
    api = {"url": "http://ollama:11434/v1/chat/completions", "params": {"model": "llava"}}
    reply = server.api.http.post(
        "/v1/convert/file",
        files={"files": ("/data/notes.md", document("notes.md"), MD)},
        data={"do_picture_description": "true", "picture_description_api": json.dumps(api)},
    )

    assert reply.status_code == 422
    assert "picture_description_api needs remote services" in reply.json()["detail"]


def test_langchain_by_uploads(server: RunningServer) -> None:
    """Loaders for LangChain that speak HTTP themselves: the file is opened without a type, lists
    are repeated fields, and both the Markdown and the document are read."""
    reply = server.api.http.post(
        "/v1/convert/file",
        files={"files": ("letter.docx", document("letter.docx"))},
        data={
            "from_formats": ["docx", "pptx", "html", "image", "pdf", "asciidoc", "md", "xlsx"],
            "to_formats": ["md", "json", "html", "text", "doctags"],
            "image_export_mode": "placeholder",
            "do_ocr": "false",
            "force_ocr": "false",
            "ocr_engine": "rapidocr",
            "table_mode": "fast",
            "abort_on_error": "false",
            "return_as_file": "false",
            "do_table_structure": "true",
            "include_images": "true",
            "images_scale": "2",
        },
    )

    assert reply.is_success, reply.text
    told = reply.json()["document"]
    assert missing_phrases("letter.docx", told["md_content"]) == []
    assert told["json_content"]["schema_name"] == "DoclingDocument"
    assert told["text_content"]
    assert told["html_content"].lstrip().lower().startswith("<!doctype html")
    assert told["doctags_content"].startswith("<doctag>")
