"""Every answer to made-up requests is in the OpenAPI document, and none is a fault of the server.

``make fuzz``: schemathesis with all its checks, over the whole API.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.helpers.server import SUBPROCESS_MODE

_ROOT = Path(__file__).parents[2]
_KEY = "sesame"
_WHOLE_API = {
    "DOCLING_SERVE_API_KEY": _KEY,
    "DOCLING_SERVE_ENABLE_MANAGEMENT_ENDPOINTS": "true",
    "DOCLING_SERVE_ENABLE_UI": "true",
    "DOCLING_SERVE_ENABLE_EXTERNAL_LOADER_API": "true",
    "DOCLING_SERVE_ENABLE_TIKA_API": "true",
    "DOCLING_SERVE_ENABLE_MISTRAL_API": "true",
    "DOCLING_SERVE_LOG_LEVEL": "INFO",
}
#: A request in flight at the end of the time is still answered.
_GRACE_S = 300


@pytest.mark.timeout(0)
def test_every_answer_is_documented(serve: StartServer, fuzz: int) -> None:
    config = _ROOT / "examples" / "embedded.yaml"
    with serve(SUBPROCESS_MODE | _WHOLE_API, config=config) as server:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli"),
                *("--config-file", str(Path(__file__).parent / "fuzzing" / "settings.toml")),
                *("run", f"{server.url}/openapi.json", "--header", f"X-Api-Key: {_KEY}"),
                *("--checks", "all", "--max-time", str(fuzz), "--request-timeout", "150"),
                *("--max-response-time", "150"),  # of a document; the default is for other APIs
                # This stream does not end; tests/unit/api/test_operations.py reads it.
                *("--exclude-path", "/v1/workers/events"),
                *("--generation-database", "none", "--continue-on-failure", "--no-color"),
            ],
            cwd=server.folder,  # it writes files of its own
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            timeout=fuzz + _GRACE_S,
            check=False,
        )
        assert server.running
        assert "Exception in ASGI application" not in server.log()
    assert done.returncode == 0, "schemathesis printed what it found"
