"""The ray engine on a cluster of several nodes that is not the gateway's: what is lost, and what
is not, when parts of it are killed."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.helpers.api import missing_phrases, upload
from tests.helpers.eventually import eventually
from tests.helpers.failing_documents import PAGE, faulty
from tests.helpers.ray_engines import RayNodes, require_ray
from tests.helpers.redis_server import RedisServer
from tests.helpers.server import (
    NOTHING_KEPT,
    OCR_ONLY,
    SUBPROCESS_MODE,
    WITH_FAULTY_OCR,
    RunningServer,
)
from tests.helpers.server_processes import alive

#: Generous: a cluster and its processes start slowly on a busy machine.
_WITHIN_S = 240.0
_HEAVY = ("libtorch", "onnxruntime", "libcuda", "libcudart")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Ray's sockets have names that leave little room for a folder's."""
    made = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    yield Path(made)
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def nodes(folder: Path) -> Iterator[RayNodes]:
    require_ray()
    with RayNodes(folder) as nodes:
        nodes.add()
        yield nodes


@pytest.fixture(scope="module")
def gateway(
    serve: StartServer, tmp_path_factory: pytest.TempPathFactory, folder: Path, nodes: RayNodes
) -> Iterator[RunningServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as redis:
        actors = {"env_vars": {"PYTHONPATH": WITH_FAULTY_OCR["PYTHONPATH"], "HF_HUB_OFFLINE": "1"}}
        env = {
            **SUBPROCESS_MODE,
            **NOTHING_KEPT,
            **WITH_FAULTY_OCR,
            "DOCLING_SERVE_ENG_KIND": "ray",
            "DOCLING_SERVE_ENG_RAY_REDIS_URL": redis.url,
            "DOCLING_SERVE_ENG_RAY_ADDRESS": nodes.address,
            "DOCLING_SERVE_ENG_RAY_RUNTIME_ENV": json.dumps(actors),
            "DOCLING_SERVE_ENG_RAY_CONVERTER_ACTOR_NUM_CPUS": "2",
            "DOCLING_SERVE_ENG_RAY_MAX_ACTORS": "1",
            "DOCLING_SERVE_ENG_RAY_MAX_ONGOING_REQUESTS_PER_REPLICA": "2",
            "DOCLING_SERVE_ENG_RAY_RETRY_DELAY": "0",
            "DOCLING_SERVE_ENG_RAY_SCRATCH_DIR": str(folder),
            "RAY_TMPDIR": str(folder),
        }
        with serve(env, probe="/health", config=OCR_ONLY) as running:
            eventually(
                lambda: running.api.get("/ready").status_code == 200,
                within_s=_WITHIN_S,
                what=running.log_tail,
            )
            yield running


def started(marker: Path) -> bool:
    """Whether the document that hangs is being converted."""
    return marker.stat().st_mtime > 0


def submit_hanging(gateway: RunningServer, marker: Path) -> str:
    """A task that hangs the first time that it is run; returns once it does."""
    task = gateway.api.submit(upload(*PAGE), form=faulty("hang", marker))
    eventually(lambda: started(marker), within_s=_WITHIN_S, what=gateway.log_tail)
    return task


def cancel(gateway: RunningServer, task: str) -> None:
    assert gateway.api.http.delete(f"/v1/tasks/{task}").status_code == 200


def test_an_idle_cluster_has_no_process_that_could_hold_gpu_memory(
    gateway: RunningServer, nodes: RayNodes
) -> None:
    converted = gateway.api.convert(upload(*PAGE))
    assert converted.status_code == 200, converted.text

    eventually(lambda: nodes.workers() == [], within_s=_WITHIN_S, what="the workers exit")
    for process in nodes.actors():
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert [name for name in _HEAVY if name in maps] == []
    assert [name for name in _HEAVY if name in gateway.maps()] == []


def test_a_running_task_is_cancelled_and_its_process_ends(
    gateway: RunningServer, nodes: RayNodes, tmp_path: Path
) -> None:
    task = submit_hanging(gateway, tmp_path / "marker")
    eventually(
        lambda: gateway.api.poll(task)["task_meta"]["phase"] == "build",
        within_s=_WITHIN_S,
        what="what it does is reported",
    )

    cancel(gateway, task)
    eventually(lambda: nodes.workers() == [], within_s=_WITHIN_S, what="its worker exits")
    assert gateway.api.get(f"/v1/status/poll/{task}").status_code == 404


def test_a_task_outlives_the_dispatcher(
    gateway: RunningServer, nodes: RayNodes, tmp_path: Path
) -> None:
    """It hangs, but another is still given to the same actor."""
    task = submit_hanging(gateway, tmp_path / "marker")
    (before,) = nodes.actors("TaskActor")
    (dispatcher,) = nodes.actors("DispatcherActor")
    dispatcher.kill()

    body = gateway.api.succeed(gateway.api.submit(upload("notes.md")))
    assert missing_phrases("notes.md", body["document"]["md_content"]) == []
    assert nodes.actors("TaskActor") == [before]
    assert gateway.api.poll(task)["task_status"] == "started"
    cancel(gateway, task)


def test_a_task_whose_actor_is_killed_runs_on_another(
    gateway: RunningServer, nodes: RayNodes, tmp_path: Path
) -> None:
    task = submit_hanging(gateway, tmp_path / "marker")
    (actor,) = nodes.actors("TaskActor")
    actor.kill()

    gateway.api.succeed(task)


def test_a_task_whose_node_is_killed_runs_on_another(
    gateway: RunningServer, nodes: RayNodes, tmp_path: Path
) -> None:
    task = submit_hanging(gateway, tmp_path / "marker")
    lost = [process.pid for process in [*nodes.actors("TaskActor"), *nodes.workers()]]
    nodes.add()
    nodes.kill_first()

    gateway.api.succeed(task)
    for pid in lost:
        eventually(lambda pid=pid: not alive(pid), within_s=_WITHIN_S, what="it ends, too")
