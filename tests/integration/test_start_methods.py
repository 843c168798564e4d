"""Both start methods of workers on asyncio's own event loop. All other tests of subprocess mode run
on uvloop, most of them with spawn, those in tests/faults with both."""

from __future__ import annotations

import pytest

from tests.conftest import StartServer
from tests.helpers.api import SLIP, missing_phrases, upload
from tests.helpers.fake_gpu import FakeCard, FakeDriver, FakeGpu
from tests.helpers.metrics_page import samples
from tests.helpers.run_with_loop import command_on
from tests.helpers.server import NOTHING_KEPT, STOP_LIMIT_S, SUBPROCESS_MODE, RunningServer


def test_uvloop_is_what_a_server_runs_on(server: RunningServer) -> None:
    assert "uvloop/loop." in server.maps()


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_documents_convert(start_server: StartServer, start_method: str) -> None:
    settings = {"DOCLING_SERVE_SUBPROCESS_START_METHOD": start_method}
    server = start_server(SUBPROCESS_MODE | NOTHING_KEPT | settings, command=command_on("asyncio"))
    assert "uvloop/loop." not in server.maps()

    tasks = {name: server.api.submit(upload(name)) for name in (SLIP, "notes.md")}
    for name, task in tasks.items():
        text = server.api.succeed(task)["document"]["md_content"]
        assert missing_phrases(name, text) == []

    server.wait_for_no_workers()
    assert "libtorch" not in server.maps()
    forked = "multiprocessing.forkserver" in server.commands()
    assert forked == (start_method == "forkserver")
    metrics = server.api.get("/metrics").text
    assert bool(samples(metrics, "docling_serve_template_memory_bytes")) == forked
    assert samples(metrics, "docling_serve_workers")['state="busy"'] == 0
    assert samples(metrics, "docling_serve_workers_peak_memory_bytes")[""] > 1e8
    assert samples(metrics, "docling_serve_pages_total") == {"": 1}

    server.press_ctrl_c()
    server.wait(STOP_LIMIT_S)
    assert (
        server.log().splitlines()[-1].endswith("Finished server process [" + str(server.pid) + "]")
    )


def test_a_template_with_torch_is_used_where_a_driver_is_installed(
    start_server: StartServer, fake_gpu: FakeGpu
) -> None:
    fake_gpu.play(FakeDriver(cards=(FakeCard(0),)))
    settings = {
        "DOCLING_SERVE_SUBPROCESS_START_METHOD": "forkserver",
        "DOCLING_SERVE_SUBPROCESS_PRELOAD_TORCH": "true",
    }
    server = start_server(SUBPROCESS_MODE | settings | fake_gpu.environment())

    text = server.api.succeed(server.api.submit(upload("notes.md")))["document"]["md_content"]

    assert missing_phrases("notes.md", text) == []
    assert fake_gpu.calls("loaded"), "torch did not open libcuda: this test would show nothing"
    assert "fork template is not used" not in server.log()
    assert "multiprocessing.forkserver" in server.commands()
