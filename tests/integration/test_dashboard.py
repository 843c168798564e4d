"""The queries of the dashboard and of the alerts, asked of a real Prometheus that scrapes a real
server with tasks. Skipped where Prometheus is not installed (a package of Debian)."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import StartServer
from tests.helpers.api import upload
from tests.helpers.eventually import eventually
from tests.helpers.failing_documents import PAGE, faulty
from tests.helpers.ports import HeldPort
from tests.helpers.server import REPOSITORY, SUBPROCESS_MODE, WITH_FAULTY_OCR, RunningServer

MONITORING = REPOSITORY / "deploy" / "monitoring"
DASHBOARD = MONITORING / "dashboards" / "docling-serve.json"
_WITHIN_S = 120.0
#: Without a GPU, queries of its memory have no data.
_OF_THE_GPU = "docling_serve_gpu_memory"


@pytest.fixture(scope="module")
def server(serve: StartServer) -> Iterator[RunningServer]:
    env = {"DOCLING_SERVE_SUBPROCESS_RETRIES": "0"}
    with serve(SUBPROCESS_MODE | WITH_FAULTY_OCR | env) as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(
    server: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """Prometheus with our configuration, only faster and with the address of the server."""
    found = shutil.which("prometheus")
    if found is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    config: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{server.port}"]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(MONITORING / "alerts.yaml", folder)
    held = HeldPort()
    command = [
        found,
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{held.number}",
    ]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{held.number}"
    try:
        with httpx.Client(base_url=url, trust_env=False) as client:
            eventually(lambda: _is_ready(client), within_s=_WITHIN_S, what=log.read_text)
            yield client
    finally:
        process.terminate()
        process.wait(_WITHIN_S)
        held.release()


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def _ask(prometheus: httpx.Client, query: str) -> list[Any]:
    for name, value in (("$__rate_interval", "1m"), ("$instance", ".*")):
        query = query.replace(name, value)
    reply = prometheus.get("/api/v1/query", params={"query": query}).json()
    assert reply["status"] == "success", (query, reply)
    found: list[Any] = reply["data"]["result"]
    return found


def _expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_every_query_returns_data(server: RunningServer, prometheus: httpx.Client) -> None:
    """Tasks that succeed, one that fails and one that loses its worker; then the queries."""
    eventually(lambda: _ask(prometheus, "up == 1"), within_s=_WITHIN_S, what="a first scrape")
    for _ in range(2):
        assert server.api.convert(upload("notes.md")).status_code == 200
    assert server.api.convert(upload("bad.docx", b"none")).status_code != 500
    lost = server.api.finish(server.api.submit(upload(*PAGE), form=faulty("segfault")))
    assert lost["task_status"] == "failure"

    missing: list[str] = []

    def all_return_data() -> bool:
        missing[:] = [
            query
            for query in _expressions()
            if _OF_THE_GPU not in query and not _ask(prometheus, query)
        ]
        return not missing

    eventually(all_return_data, within_s=_WITHIN_S, what=lambda: "\n".join(missing), every_s=1)


def test_the_rules_are_evaluated(prometheus: httpx.Client) -> None:
    def states() -> list[str]:
        groups = prometheus.get("/api/v1/rules").json()["data"]["groups"]
        return [rule["health"] for group in groups for rule in group["rules"]]

    wanted = sum(len(each["rules"]) for each in _groups())
    eventually(lambda: states() == ["ok"] * wanted, within_s=_WITHIN_S, what=lambda: str(states()))


def _groups() -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load((MONITORING / "alerts.yaml").read_text())[
        "groups"
    ]
    return groups


def test_the_rules_pass_the_tool_of_prometheus(tmp_path: Path) -> None:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    for command in (["rules", "alerts.yaml"], ["config", "prometheus.yaml"]):
        done = subprocess.run(
            [found, "check", *command], cwd=MONITORING, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
