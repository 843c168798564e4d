"""The ray engine as users run it: a gateway in a process of its own, a real Redis, and a Ray
cluster on this machine that the gateway starts and ends."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator

import pytest

from tests.conftest import StartServer
from tests.helpers.api import base64_source, missing_phrases, upload
from tests.helpers.eventually import eventually
from tests.helpers.otlp_receiver import OtlpReceiver, otlp_receiver
from tests.helpers.ray_engines import require_ray
from tests.helpers.redis_server import RedisServer
from tests.helpers.server import ORPHAN_LIMIT_S, RunningServer

#: A cluster on a busy machine: its own processes, three actors, docling in two of them.
_READY_WITHIN_S = 240.0


@pytest.fixture(scope="module")
def ray_folder() -> Iterator[str]:
    """For Ray's sockets, whose names leave little room for a folder's, and for what its killed
    actors leave behind."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def gateway(
    serve: StartServer,
    tmp_path_factory: pytest.TempPathFactory,
    ray_folder: str,
    receiver: OtlpReceiver,
) -> Iterator[RunningServer]:
    require_ray()
    with RedisServer(tmp_path_factory.mktemp("redis")) as redis:
        env = {
            "DOCLING_SERVE_ENG_KIND": "ray",
            "DOCLING_SERVE_ENG_RAY_REDIS_URL": redis.url,
            "DOCLING_SERVE_ENG_RAY_ADDRESS": "local",
            "DOCLING_SERVE_ENG_RAY_MAX_ACTORS": "1",
            "DOCLING_SERVE_ENG_RAY_CONVERTER_ACTOR_NUM_CPUS": "0.25",
            "DOCLING_SERVE_ENG_RAY_OBJECT_STORE_MEMORY": "100MB",
            "DOCLING_SERVE_ENG_RAY_TENANT_METRICS_REFRESH_INTERVAL": "0.2",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": ray_folder,
            "TMPDIR": ray_folder,
            **receiver.settings,
        }
        with serve(env, probe="/health") as running:
            eventually(
                lambda: running.api.get("/ready").status_code == 200,
                within_s=_READY_WITHIN_S,
                what="the cluster is there",
            )
            yield running


def test_documents_are_converted_on_the_cluster(gateway: RunningServer) -> None:
    now = gateway.api.convert(upload("notes.md"))
    assert now.status_code == 200, now.text
    assert missing_phrases("notes.md", now.json()["document"]["md_content"]) == []

    task = gateway.api.submit(upload("scan.png"))
    text = gateway.api.succeed(task)["document"]["md_content"]
    assert missing_phrases("scan.png", text) == []

    zipped = gateway.api.convert(upload("notes.md"), upload("page.html"))
    assert zipped.headers["content-type"] == "application/zip"


def test_documents_are_chunked_on_the_cluster(gateway: RunningServer) -> None:
    body = {"sources": [base64_source("notes.md")]}
    reply = gateway.api.http.post("/v1/chunk/hierarchical/source", json=body)

    assert reply.status_code == 200, reply.text
    told = " ".join(chunk["text"] for chunk in reply.json()["chunks"])
    assert missing_phrases("notes.md", told) == []


def test_a_tenant_has_its_own_tasks(gateway: RunningServer) -> None:
    task = gateway.api.submit(upload("notes.md"), X_Tenant_Id="acme")
    polled = gateway.api.http.get(
        f"/v1/status/poll/{task}", params={"wait": 60}, headers={"X-Tenant-Id": "acme"}
    )

    assert polled.json()["task_status"] == "success"
    assert gateway.api.get(f"/v1/status/poll/{task}").status_code == 404
    counted = 'docling_ray_tenant_tasks_succeeded_total{tenant_id="acme"} 1.0'
    eventually(
        lambda: counted in gateway.api.get("/metrics").text,
        within_s=ORPHAN_LIMIT_S,
        what="it is counted",
    )


def test_requests_are_traced(gateway: RunningServer, receiver: OtlpReceiver) -> None:
    assert gateway.api.convert(upload("notes.md")).status_code == 200

    eventually(
        lambda: "POST /v1/convert/file" in [span.name for span in receiver.spans],
        within_s=ORPHAN_LIMIT_S,
        what="the span is told",
    )


def test_a_failed_task_says_so(gateway: RunningServer) -> None:
    body = {
        "sources": [base64_source("notes.md")],
        "target": {"kind": "put", "url": "http://127.0.0.1:9/results"},
    }
    reply = gateway.api.http.post("/v1/convert/source", json=body)

    assert reply.status_code == 424, reply.text
    assert reply.json()["kind"] == "TaskFailureResult"


def test_a_task_is_deleted(gateway: RunningServer) -> None:
    task = gateway.api.submit(upload("scan.pdf"))

    assert gateway.api.http.delete(f"/v1/tasks/{task}").status_code == 200
    assert gateway.api.get(f"/v1/status/poll/{task}").status_code == 404
