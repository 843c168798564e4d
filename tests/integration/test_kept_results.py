"""Results and uploads that outlive their request, on a real server that is killed and started."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.conftest import StartServer
from tests.helpers.api import document, missing_phrases, upload
from tests.helpers.server import SUBPROCESS_MODE, RunningServer

NAME = "letter.docx"


def _loaded(server: RunningServer) -> httpx.Response:
    """The document as Open WebUI's external loader sends it."""
    headers = {"X-Filename": NAME}
    return server.api.http.put("/process", content=document(NAME), headers=headers)


def test_a_killed_server_keeps_results_and_no_uploads(
    start_server: StartServer, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    settings = SUBPROCESS_MODE | {
        "DOCLING_SERVE_SCRATCH_PATH": str(scratch),
        "DOCLING_SERVE_RESULT_CACHE": "true",
        "DOCLING_SERVE_ENABLE_EXTERNAL_LOADER_API": "true",
        "DOCLING_SERVE_ENABLE_MISTRAL_API": "true",
    }
    server = start_server(settings)
    first = server.api.convert(upload(NAME), form={"image_export_mode": "placeholder"})
    kept = server.api.http.post("/v1/files", files={"file": (NAME, document(NAME))}).json()["id"]
    server.kill()

    server = start_server(settings)
    again = server.api.convert(upload(NAME), form={"image_export_mode": "placeholder"})
    loaded = _loaded(server)
    gone = server.api.http.get(f"/v1/files/{kept}")
    server.api.http.post("/v1/files", files={"file": (NAME, document(NAME))})
    server.stop()

    assert [reply.headers["x-docling-cache"] for reply in (first, again)] == ["miss", "hit"]
    assert again.json() == first.json()
    assert missing_phrases(NAME, again.json()["document"]["md_content"]) == []
    assert loaded.headers["x-docling-cache"] == "hit"  # it asks for the same
    assert missing_phrases(NAME, loaded.json()["page_content"]) == []
    assert gone.status_code == 404
    assert not (scratch / "docling-serve.uploads").exists()
    assert {path.suffix for path in (scratch / "docling-serve.results").iterdir()} == {
        ".body",
        ".json",
    }
