"""What deploy/ says of the server is true of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from docling_serve.errors import Failure
from docling_serve.settings import DoclingServeSettings, UvicornSettings
from docling_serve.settings.unknown import unknown_settings
from tests.helpers.metrics_page import names
from tests.helpers.pool_description import gpus, pool
from tests.helpers.rest_server import rest_server

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
YAML = [path for path in FILES if path.suffix == ".yaml"]
DASHBOARD = DEPLOY / "monitoring" / "dashboards" / "docling-serve.json"
ALERTS = DEPLOY / "monitoring" / "alerts.yaml"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
PORT = UvicornSettings.model_fields["port"].default
GRACE_S = DoclingServeSettings.model_fields["shutdown_grace"].default
#: Lines that only a running Prometheus or another exporter knows.
OTHERS = {"up", "rq_jobs", "process_resident_memory_bytes"}


def texts() -> Iterator[tuple[Path, str]]:
    for path in [*FILES, ROOT / "docs" / "deployment.md"]:
        yield path, path.read_text()


@pytest.mark.parametrize("path", YAML, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_yaml_parses(path: Path) -> None:
    assert all(isinstance(document, dict) for document in yaml.safe_load_all(path.read_text()))


def test_settings_are_those_of_the_server() -> None:
    uvicorn = {f"UVICORN_{name.upper()}" for name in UvicornSettings.model_fields}
    for path, text in texts():
        ours = set(re.findall(r"\bDOCLING_SERVE_[A-Z0-9_]*[A-Z0-9]\b", text))
        assert unknown_settings(dict.fromkeys(ours, "x")) == [], path
        assert set(re.findall(r"\bUVICORN_[A-Z_]+\b", text)) <= uvicorn, path


def queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    rules = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    scaling = [
        trigger["metadata"]["query"]
        for document in yaml.safe_load_all((DEPLOY / "kubernetes/keda/scaling.yaml").read_text())
        for trigger in document["spec"]["triggers"]
    ]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    return [*asked, *(rule["expr"] for rule in rules), *scaling]


async def test_metrics_are_on_a_page_of_the_server(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        server.services.describe_workers = lambda: pool(
            ("busy", 100, 7), template={"pid": 9, "rss_bytes": 50}
        )
        server.services.read_gpus = gpus
        await server.client.post("/v1/convert/file", files=[("files", ("a.md", b"# T"))])
        server.runner.failure = Failure("timeout", "too slow")
        await server.client.post("/v1/convert/file", files=[("files", ("a.md", b"# T"))])
        known = names((await server.client.get("/metrics")).text) | OTHERS

    asked = {
        name
        for query in queries()
        for name in re.findall(r"\b(?:docling_serve|http_server|process|rq)_\w+|\bup\b", query)
    }
    assert len(asked) > 20
    assert asked - known == set()


def test_the_dashboard_is_what_grafana_provisions() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    source = yaml.safe_load((DEPLOY / "monitoring" / "datasource.yaml").read_text())["datasources"][
        0
    ]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
    places = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & places, panel["title"]
        places |= cells


def test_every_alert_has_a_runbook() -> None:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["runbook"].endswith("."), rule["alert"]
            assert rule["labels"]["severity"] in ("warning", "critical")


def test_ports_and_paths_agree() -> None:
    image = (DEPLOY / "Containerfile").read_text()
    assert f"EXPOSE {PORT}" in image
    assert f"or {PORT})" in (DEPLOY / "ready.py").read_text()
    for name in ("docling-cpu", "docling-nvidia"):
        service = COMPOSE["services"][name]
        assert service["ports"][0].endswith(f":{PORT}")
        mounted = {volume.split(":")[1] for volume in service["volumes"]}
        assert mounted == {"/var/lib/docling-serve", "/models"}
    assert "SCRATCH_PATH=/var/lib/docling-serve/" in image
    assert "install -d -o 1001 -g 0 -m 2770 /var/lib/docling-serve /models" in image
    monitored = yaml.safe_load((DEPLOY / "monitoring" / "prometheus.yaml").read_text())
    targets = monitored["scrape_configs"][0]["static_configs"][0]["targets"]
    assert targets == [f"docling:{PORT}"]
    chat = COMPOSE["services"]["open-webui"]["environment"]
    assert chat["DOCLING_SERVER_URL"] == f"http://docling:{PORT}"
    named = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    offered = re.findall(r"^(\w+)=", (DEPLOY / ".env.example").read_text(), re.MULTILINE)
    assert named == set(offered)
    for path in re.findall(r"^COPY (?!--from)(\S+) ", image, re.MULTILINE):
        assert (ROOT / path).exists(), path


def test_every_stop_is_longer_than_the_grace() -> None:
    stops = {"compose": COMPOSE["services"]["docling-cpu"]["stop_grace_period"].removesuffix("s")}
    unit = (DEPLOY / "systemd" / "docling-serve.service").read_text()
    stops["systemd"] = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0]
    for path in (DEPLOY / "kubernetes").rglob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] in ("Deployment", "StatefulSet"):
                spec: dict[str, Any] = document["spec"]["template"]["spec"]
                stops[str(path)] = spec["terminationGracePeriodSeconds"]
    assert len(stops) == 5
    assert {name: stop for name, stop in stops.items() if float(stop) <= GRACE_S + 5} == {}


def test_a_health_check_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    import runpy

    main = runpy.run_path(str(DEPLOY / "ready.py"))["main"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UVICORN_PORT", "1")  # nobody listens there
        assert main() == 1
    assert "refused" in capfd.readouterr().err
