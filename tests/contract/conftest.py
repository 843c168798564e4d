"""Servers that answer recorded requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import MODES, StartServer
from tests.helpers.receiver import Receiver, receiver
from tests.helpers.server import RunningServer

#: As the recordings were made; the limits are those of recording 14. The delay is longer than that
#: of recording 04, in which a result is fetched twice.
RECORDED_WITH = {
    "DOCLING_SERVE_ALLOW_EXTERNAL_PLUGINS": "true",
    "DOCLING_SERVE_ALLOW_CUSTOM_LAYOUT_CONFIG": "true",
    "DOCLING_SERVE_ALLOW_CUSTOM_OCR_CONFIG": "true",
    "DOCLING_SERVE_LOAD_MODELS_AT_BOOT": "false",
    "DOCLING_SERVE_RESULT_REMOVAL_DELAY": "4",
    "DOCLING_SERVE_MAX_FILE_SIZE": "200000",
    "DOCLING_SERVE_MAX_NUM_PAGES": "2",
}


@pytest.fixture(scope="session")
def recorded_server(mode: str, shared_server: StartServer) -> RunningServer:
    """A server without model weights, set up like the recorded one; in both modes."""
    return shared_server(MODES[mode] | RECORDED_WITH, config=None)


@pytest.fixture(name="receiver")
def _receiver() -> Iterator[Receiver]:
    with receiver() as listening:
        yield listening
