"""The limits for strangers and a profile in one file, as docs/limits.md has users make it."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import StartServer
from tests.helpers.api import SLIP, missing_phrases, upload
from tests.helpers.server import EMBEDDED, REPOSITORY

PUBLIC = REPOSITORY / "examples" / "public.yaml"


def test_a_server_with_both_reads_a_scan(serve: StartServer, tmp_path: Path) -> None:
    both = tmp_path / "server.yaml"
    both.write_text(PUBLIC.read_text() + EMBEDDED.read_text())

    with serve({"DOCLING_SERVE_API_KEY": "key"}, config=both, headers={"X-Api-Key": "key"}) as run:
        body = run.api.succeed(run.api.submit(upload(SLIP)))

        assert missing_phrases(SLIP, body["document"]["md_content"]) == []
        assert run.api.get("/v1/workers").status_code == 403, "strangers see no workers"
        assert "subprocess mode is on" in run.log()
