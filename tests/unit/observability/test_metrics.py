"""What /metrics tells, under which names, and what it must not be made to tell."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from docling_serve.errors import Failure
from tests.helpers.metrics_page import names, samples
from tests.helpers.pool_description import gpus, pool
from tests.helpers.ports import HeldPort
from tests.helpers.rest_server import RestServer, rest_server

UPLOAD = [("files", ("a.md", b"# T"))]
#: Names of docling-serve 1.38.2 (upstream L94).
PROCESS = {
    "python_gc_objects_collected_total",
    "python_gc_objects_uncollectable_total",
    "python_gc_collections_total",
    "python_info",
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
}
REQUESTS = {
    "http_server_active_requests",
    "http_server_duration_milliseconds_count",
    "http_server_request_size_bytes_count",
    "http_server_response_size_bytes_count",
}

AGE = "docling_serve_tasks_waiting_age_seconds"


async def page(server: RestServer) -> str:
    reply = await server.client.get("/metrics")
    assert reply.status_code == 200
    return reply.text


async def test_names_are_those_that_dashboards_know(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        await server.client.post("/v1/convert/file", files=UPLOAD)
        reply = await server.client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert names(reply.text) >= PROCESS | REQUESTS | {"target_info"}
    assert samples(reply.text, "target_info") == {'service_name="docling-serve"': 1.0}
    assert 'otel_scope_name="opentelemetry.instrumentation.fastapi"' in reply.text


async def test_requests_are_told_apart_by_route_method_and_status(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        for task in ("x", "y"):
            await server.client.get(f"/v1/status/poll/{task}")
        await server.client.get("/no/such/page")
        counts = samples(await page(server), "http_server_duration_milliseconds_count")
    (polls,) = [
        (labels, count) for labels, count in counts.items() if "status/poll/{task_id}" in labels
    ]
    assert polls[1] == 2
    assert {label.split("=")[0] for label in polls[0].split(",")} == {
        "http_flavor",
        "http_host",
        "http_method",
        "http_scheme",
        "http_status_code",
        "http_target",
        "net_host_port",
    }
    assert "no/such/page" not in " ".join(counts)


async def test_clients_cannot_make_series(tmp_path: Path) -> None:
    pages = []
    async with rest_server(tmp_path) as server:
        for number in range(20):
            await server.client.get("/version", headers={"Host": f"host-{number}.example"})
            await server.client.request(f"ODD{number}", "/version")
            await server.client.get(f"/made-up/{number}")
            pages.append(await page(server))
    first, *_, last = [re.sub(r" \S+$", "", text, flags=re.MULTILINE) for text in pages]
    assert first == last
    assert not {"host-1", "ODD1", "made-up"} & set(re.split(r"[^\w-]+", last))


async def test_probes_and_scrapes_are_not_counted(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        for path in ("/health", "/ready", "/readyz", "/livez", "/api", "/metrics"):
            await server.client.get(path)
        assert samples(await page(server), "http_server_duration_milliseconds_count") == {}


async def test_tasks_are_counted_by_type_and_outcome(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        await server.client.post("/v1/convert/file", files=UPLOAD)
        await server.client.post("/v1/chunk/hybrid/file", files=UPLOAD)
        server.runner.failure = Failure("timeout", "too slow")
        await server.client.post("/v1/convert/file", files=UPLOAD)
        text = await page(server)
    assert samples(text, "docling_serve_tasks_total") == {
        'outcome="success",task_type="convert"': 1,
        'outcome="success",task_type="chunk"': 1,
        'outcome="timeout",task_type="convert"': 1,
    }
    assert samples(text, "docling_serve_task_wait_seconds_count") == {
        'task_type="chunk"': 1,
        'task_type="convert"': 2,
    }
    assert sum(samples(text, "docling_serve_task_duration_seconds_count").values()) == 3


async def test_load_is_read_at_the_scrape(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        server.services.describe_workers = lambda: pool(
            ("busy", 100, 7),
            ("busy", 23, None),
            ("standby", 40, None),
            template={"pid": 9, "rss_bytes": 50},
        )
        server.services.read_gpus = gpus
        for _ in range(3):
            await server.client.post("/v1/convert/file/async", files=UPLOAD)
        await server.runner.begun.get()
        text = await page(server)
    assert samples(text, "docling_serve_tasks_waiting") == {"": 2}
    assert samples(text, "docling_serve_tasks_running") == {"": 1}
    assert samples(text, "docling_serve_workers") == {
        'state="busy"': 2,
        'state="standby"': 1,
        'state="lost"': 0,
    }
    assert samples(text, "docling_serve_workers_memory_bytes") == {"": 163}
    assert samples(text, "docling_serve_standby_memory_bytes") == {"": 40}
    assert samples(text, "docling_serve_workers_peak_memory_bytes") == {"": 900}
    assert samples(text, "docling_serve_workers_peak_gpu_memory_bytes") == {"": 70}
    assert samples(text, "docling_serve_template_memory_bytes") == {"": 50}
    assert samples(text, "docling_serve_gpu_memory_bytes") == {'gpu="GPU-1"': 8000}
    assert samples(text, "docling_serve_gpu_memory_used_bytes") == {'gpu="GPU-1"': 3000}
    assert samples(text, "docling_serve_workers_gpu_memory_bytes") == {"": 7}
    assert samples(text, "docling_serve_workers_started_total") == {"": 5}
    assert samples(text, "docling_serve_workers_stopped_total") == {
        'reason="idle"': 3,
        'reason="crashed"': 1,
    }
    assert samples(text, "docling_serve_workers_lost_total") == {'exit="SIGSEGV"': 1}
    assert samples(text, "docling_serve_tasks_retries_total") == {"": 1}
    assert samples(text, "docling_serve_isolation_overhead_seconds_total") == {
        'part="spawn"': 0.5,
        'part="import"': 6.0,
        'part="load"': 2.0,
        'part="release"': 0.0,
    }
    assert samples(text, "docling_serve_converters_lookups_total") == {
        'result="hit"': 8,
        'result="miss"': 2,
    }
    assert samples(text, "docling_serve_onnx_fallbacks_total") == {"": 3}
    assert samples(text, "docling_serve_neighbours_evictions_total") == {"": 2}
    assert samples(text, "docling_serve_admission_waits_total") == {"": 4}
    assert samples(text, "docling_serve_admission_wait_seconds_total") == {"": 7.5}
    assert samples(text, "docling_serve_admission_overcommitted_total") == {"": 1}


async def test_a_scrape_reads_once(tmp_path: Path) -> None:
    """Each reading walks through the processes of all workers."""
    readings = []
    async with rest_server(tmp_path) as server:
        server.services.describe_workers = lambda: (
            pool(("busy", 1, None)) | {"n": readings.append(1)}
        )
        await page(server)
        assert len(readings) == 1
        await page(server)
        assert len(readings) == 2


async def test_pages_of_results_are_counted(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        before = samples(await page(server), "docling_serve_pages_total")
        server.runner.pages = 3
        await server.client.post("/v1/convert/file", files=UPLOAD)
        await server.client.post("/v1/convert/file", files=UPLOAD)
        after = samples(await page(server), "docling_serve_pages_total")
    assert (before, after) == ({"": 0}, {"": 6})


async def test_a_request_makes_few_series(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        await server.client.get("/version")
        text = await page(server)
    assert 0 < len(re.findall(r'^http_server_\S+http_target="/version"', text, re.MULTILINE)) < 24


async def test_the_age_of_the_queue_is_that_of_its_first_task(tmp_path: Path) -> None:
    async with rest_server(tmp_path, closed=True) as server:
        assert samples(await page(server), AGE) == {"": 0}
        await server.client.post("/v1/convert/file/async", files=UPLOAD)
        await server.client.post("/v1/convert/file/async", files=UPLOAD)
        since = server.engine.waiting_since
        ages = samples(await page(server), AGE)
    assert since is not None
    assert 0 < ages[""] <= time.time() - since


async def test_what_nobody_can_tell_is_left_out(tmp_path: Path) -> None:
    async with rest_server(tmp_path) as server:
        without = names(await page(server))
        server.services.describe_workers = lambda: pool(("warm", 100, None))
        known = names(await page(server))
    assert not [name for name in without if "_workers_" in name]
    assert "docling_serve_workers_memory_bytes" in known
    assert "docling_serve_workers_gpu_memory_bytes" not in known
    assert "docling_serve_template_memory_bytes" not in known
    assert "docling_serve_gpu_memory_bytes" not in known


async def test_without_request_metrics_the_process_still_tells_of_itself(tmp_path: Path) -> None:
    async with rest_server(tmp_path, otel_enable_metrics=False) as server:
        await server.client.post("/v1/convert/file", files=UPLOAD)
        assert names(await page(server)) >= PROCESS
        assert not [name for name in names(await page(server)) if name.startswith(("http", "doc"))]


async def test_page_is_gone_without_prometheus(tmp_path: Path) -> None:
    async with rest_server(tmp_path, otel_enable_prometheus=False) as server:
        assert (await server.client.get("/metrics")).status_code == 404


async def test_service_name_is_configured(tmp_path: Path) -> None:
    async with rest_server(tmp_path, otel_service_name="ours") as server:
        assert samples(await page(server), "target_info") == {'service_name="ours"': 1.0}


async def test_no_key_is_asked(tmp_path: Path) -> None:
    async with rest_server(tmp_path, api_key="secret") as server:
        assert REQUESTS - names(await page(server)) == REQUESTS


@pytest.fixture
def port() -> Iterator[int]:
    held = HeldPort()
    yield held.number
    held.release()


async def test_additional_port(tmp_path: Path, port: int) -> None:
    async with rest_server(tmp_path, metrics_port=port) as server:
        await server.client.post("/v1/convert/file", files=UPLOAD)
        async with httpx.AsyncClient(trust_env=False) as client:
            elsewhere = await client.get(f"http://127.0.0.1:{port}/metrics")
        assert samples(elsewhere.text, "docling_serve_tasks_total") == samples(
            await page(server), "docling_serve_tasks_total"
        )
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


async def test_taken_port_stops_the_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        settings: dict[str, Any] = {"metrics_port": taken.getsockname()[1]}
        with pytest.raises(OSError, match="in use"):
            async with rest_server(tmp_path, **settings):
                pytest.fail("it started")
