"""Large uploads and large results pass through the server without staying in its memory.

The short form has bodies of 60 MB; with ``--soak`` they have 200 MB.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from docx import Document
from PIL import Image

from tests.conftest import KEEP_WORKERS, StartServer
from tests.helpers.api import upload
from tests.helpers.server import SUBPROCESS_MODE, RunningServer

_MB = 1_000_000
_MAY_GROW_BYTES = 20 * _MB


@pytest.fixture(scope="module")
def server(serve: StartServer) -> Iterator[RunningServer]:
    # Long enough for the long form on a busy machine.
    with serve(SUBPROCESS_MODE | KEEP_WORKERS | {"DOCLING_SERVE_MAX_SYNC_WAIT": "600"}) as server:
        server.api.convert(upload("notes.md"))  # what is loaded for a first request stays
        yield server


@pytest.fixture
def size(soak: bool) -> int:
    return (200 if soak else 60) * _MB


def peak(server: RunningServer) -> int:
    """The most memory that the server process has had since the last :func:`forget_peak`."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak(server: RunningServer) -> int:
    """Start to measure; returns what the process has now."""
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")
    return int(psutil.Process(server.pid).memory_info().rss)


def test_an_upload_is_not_held_in_memory(server: RunningServer, size: int) -> None:
    before = forget_peak(server)
    reply = server.api.convert(upload("noise.pdf", np.random.default_rng(1).bytes(size)))

    assert reply.json()["status"] == "failure"  # it is no PDF
    assert peak(server) - before < _MAY_GROW_BYTES


def test_a_result_is_not_held_in_memory(server: RunningServer, size: int, tmp_path: Path) -> None:
    """A picture of noise comes back as base64 in each of three formats."""
    before = forget_peak(server)
    form = {"to_formats": ["md", "html", "json"], "image_export_mode": "embedded"}
    files = {"files": ("noise.docx", picture_of_noise(size // 4))}
    received = 0
    with server.api.http.stream("POST", "/v1/convert/file", files=files, data=form) as reply:
        for piece in reply.iter_bytes():
            received += len(piece)

    assert reply.status_code == 200
    assert received > size
    assert peak(server) - before < _MAY_GROW_BYTES


def picture_of_noise(size: int) -> bytes:
    """A Word document with a picture of about ``size`` bytes that nothing can pack."""
    side = int((size * 1.02 / 3) ** 0.5)
    noise = np.random.default_rng(2).integers(0, 256, (side, side, 3), dtype=np.uint8)
    picture, out = io.BytesIO(), io.BytesIO()
    Image.fromarray(noise).save(picture, "PNG", compress_level=1)
    document = Document()
    document.add_picture(picture)
    document.save(out)
    return out.getvalue()
