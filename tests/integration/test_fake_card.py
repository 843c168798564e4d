"""The real server on a fake card: real workers, which convert on the CPU while the card is played.

The job that holds memory on the card hangs in an OCR engine of the tests. No engine known to the
server, it counts as one that may use the GPU, as long as torch is a build for CUDA.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from docling_serve.conversion.gpu_stages import torch_can_use_cuda
from docling_serve.internals.docling_devices import onnx_can_use_cuda
from tests.conftest import StartServer
from tests.helpers.api import upload
from tests.helpers.documents import blank_pdf
from tests.helpers.eventually import eventually
from tests.helpers.failing_documents import PAGE, faulty
from tests.helpers.fake_gpu import GIB, FakeCard, FakeDriver, FakeGpu, FakeProcess
from tests.helpers.metrics_page import samples
from tests.helpers.server import SUBPROCESS_MODE, WITH_FAULTY_OCR, RunningServer
from tests.helpers.stand_in_neighbours import StandInNeighbour, stand_in_ollama

pytestmark = pytest.mark.skipif(
    not torch_can_use_cuda(), reason="torch of this environment is a build without CUDA"
)

LIMIT_S = 100.0
FULL = FakeCard(1, total_bytes=8 * GIB, used_bytes=6 * GIB, name="Small one")
EMPTY = FakeCard(1, total_bytes=8 * GIB, name="Small one")
FAST = FakeCard(2, total_bytes=24 * GIB, name="Fast one")
_OURS = {
    "DOCLING_SERVE_SUBPROCESS_RETRIES": "0",
    "DOCLING_SERVE_ENABLE_MANAGEMENT_ENDPOINTS": "true",
}


def settings(gpu: FakeGpu, **more: str) -> dict[str, str]:
    ours = {f"DOCLING_SERVE_{name}": value for name, value in more.items()}
    return gpu.environment(SUBPROCESS_MODE | WITH_FAULTY_OCR | _OURS | ours)


def workers(server: RunningServer) -> dict[str, Any]:
    described: dict[str, Any] = server.api.get("/v1/workers").json()
    return described


def worker_of(server: RunningServer, task: str) -> dict[str, Any] | None:
    found = [each for each in workers(server)["workers"] if each["task_id"] == task]
    return found[0] if found else None


def seen(server: RunningServer, task: str, field: str, value: object) -> dict[str, Any]:
    """Wait until the worker of ``task`` shows this."""

    def look() -> dict[str, Any] | None:
        worker = worker_of(server, task)
        return worker if worker is not None and worker[field] == value else None

    found = eventually(
        look, within_s=LIMIT_S, what=lambda: f"{field} {value}: {workers(server)['workers']}"
    )
    assert found is not None
    return found


def waits(server: RunningServer, task: str) -> str:
    """Wait until ``task`` waits for memory; says why."""

    def look() -> str | None:
        worker = worker_of(server, task)
        return worker["waits_for"] if worker is not None else None

    reason = eventually(look, within_s=LIMIT_S, what=server.log_tail)
    assert reason is not None
    return reason


def test_a_full_small_card(fake_gpu: FakeGpu, start_server: StartServer) -> None:
    fake_gpu.play_cards(FULL)
    server = start_server(
        settings(fake_gpu, USE_SUBPROCESS="auto", SUBPROCESS_VRAM_PATIENCE="3600")
    )
    assert "auto: Small one has 8.0 GiB, not more than 12 GiB" in server.log()

    metrics = server.api.get("/metrics").text
    label = f'gpu="{FULL.uuid}"'
    assert samples(metrics, "docling_serve_gpu_memory_bytes") == {label: 8 * GIB}
    assert samples(metrics, "docling_serve_gpu_memory_used_bytes") == {label: 6 * GIB}

    # OCR on the CPU alone books nothing and does not wait.
    if not onnx_can_use_cuda():
        server.api.succeed(server.api.submit(upload(*PAGE)))
        assert workers(server)["admission"]["grants"] == 0

    # A job that may use the card waits until the neighbour leaves.
    task = server.api.submit(upload(*PAGE), form=faulty("hang"))
    reason = waits(server, task)
    assert "3.0 GiB of GPU memory needed (subprocess_vram_reserve" in reason
    assert "2.0 GiB available on Small one" in reason
    fake_gpu.play_cards(EMPTY)
    pid = seen(server, task, "device", EMPTY.uuid)["pid"]
    server.worker_of(task)

    # It takes memory, and gives it back when it is killed.
    fake_gpu.play_cards(FakeCard(1, name="Small one", processes=(FakeProcess(pid, 3 * GIB),)))
    seen(server, task, "vram_bytes", 3 * GIB)
    os.kill(pid, signal.SIGKILL)
    assert server.api.finish(task)["task_status"] == "failure"
    server.api.succeed(server.api.submit(upload(*PAGE), form=faulty("nothing")))

    # Nobody but the process that reads it opened the driver, and nobody made a context.
    assert {call.pid for call in fake_gpu.calls("nvmlInit")} == {server.pid}
    assert not {call.pid for call in fake_gpu.calls("cuInit")} & {server.pid}


def test_patience_ends_with_a_warning(fake_gpu: FakeGpu, start_server: StartServer) -> None:
    fake_gpu.play_cards(FULL)
    server = start_server(settings(fake_gpu, SUBPROCESS_VRAM_PATIENCE="1"))

    # The first has no picture: that OCR took no memory for it says nothing of the next.
    for document in (("text.pdf", blank_pdf()), PAGE):
        server.api.succeed(server.api.submit(upload(*document), form=faulty("nothing")))
        eventually(  # what was booked for it is given up with its models
            lambda: set(server.states().values()) <= {"standby", "stopped"},
            within_s=LIMIT_S,
            what=server.log_tail,
        )

    assert workers(server)["admission"]["waits"] == 1
    log = server.log()
    assert log.count("3.0 GiB needed, 2.0 GiB available on Small one") == 2
    assert "(subprocess_vram_patience): started anyway" in log
    assert "waiting for more did not help an earlier task: started anyway" in log


def test_two_workers_on_two_cards_in_cudas_order(
    fake_gpu: FakeGpu, start_server: StartServer
) -> None:
    fake_gpu.play(FakeDriver((EMPTY, FAST), cuda_order=(2, 1)))
    server = start_server(
        settings(fake_gpu, SUBPROCESS_MAX_WORKERS="2", SUBPROCESS_DEVICES="cuda:0,cuda:1")
    )
    order = "CUDA shows these GPUs, cuda:0 first: Fast one, Small one"
    eventually(lambda: order in server.log(), within_s=LIMIT_S, what=server.log_tail)
    [asker] = {call.pid for call in fake_gpu.calls("cuInit")}
    assert asker != server.pid

    first = server.api.submit(upload(*PAGE), form=faulty("hang"))
    assert seen(server, first, "device", FAST.uuid)
    pid = server.worker_of(first)
    holding = FakeCard(**{**vars(FAST), "processes": (FakeProcess(pid, 22 * GIB),)})
    fake_gpu.play_cards(EMPTY, holding)
    second = server.api.submit(upload(*PAGE), form=faulty("hang"))
    assert seen(server, second, "device", EMPTY.uuid)
    for task in (first, second):
        server.api.http.delete(f"/v1/tasks/{task}")


def test_the_device_that_docling_is_told_to_use(
    fake_gpu: FakeGpu, start_server: StartServer
) -> None:
    fake_gpu.play(FakeDriver((EMPTY, FAST), cuda_order=(2, 1)))
    server = start_server(settings(fake_gpu) | {"DOCLING_DEVICE": "cuda:1"})

    task = server.api.submit(upload(*PAGE), form=faulty("hang"))

    assert seen(server, task, "device", EMPTY.uuid)
    server.api.http.delete(f"/v1/tasks/{task}")


def test_a_neighbour_that_comes_and_goes(fake_gpu: FakeGpu, start_server: StartServer) -> None:
    """It unloads when a job wants its memory, returns during that job, and unloads once more after
    the job has run out of memory."""
    fake_gpu.play_cards(FULL)
    played = StandInNeighbour(["llama3:latest"], on_unload=lambda: fake_gpu.play_cards(EMPTY))
    unload = "POST /api/generate llama3:latest"
    with stand_in_ollama(played) as ollama:
        server = start_server(
            settings(
                fake_gpu,
                SUBPROCESS_RETRIES="1",
                SUBPROCESS_VRAM_PATIENCE="3600",
                UNLOAD_OLLAMA_BASE_URL=ollama.url,
            )
        )
        server.api.succeed(server.api.submit(upload(*PAGE), form=faulty("nothing")))
        assert ollama.calls.count(unload) == 1

        ollama.models = ["llama3:latest"]
        refused = server.api.submit(upload(*PAGE), form=faulty("cuda"))
        assert server.api.finish(refused)["task_status"] == "failure"
        assert ollama.calls.count(unload) == 2
        admission = workers(server)["admission"]
        assert (admission["evictions"], admission["overcommitted"]) == (2, 0)
