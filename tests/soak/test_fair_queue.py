"""Three tenants, one of which sends almost everything: who waits how long, and who is refused.

1,000 tasks with ``--soak``, 30 without; the queue takes half of them.
"""

from __future__ import annotations

import statistics
from collections import Counter

import httpx
import pytest

from tests.conftest import FORKED, StartServer
from tests.helpers.api import upload
from tests.helpers.eventually import eventually
from tests.helpers.server import SUBPROCESS_MODE, RunningServer

TASKS = {True: 1000, False: 30}
#: Of ten tasks, by tenant.
SHARES = {"greedy": 8, "modest": 1, "rare": 1}
RSS_LIMIT = 40_000_000


def send(server: RunningServer, tenant: str, number: int) -> httpx.Response:
    return server.api.http.post(
        "/v1/convert/file/async",
        files=[upload(f"{number}.md", f"# Number {number}".encode())],
        headers={"X-Tenant-Id": tenant},
    )


def starts(server: RunningServer, tenant: str) -> list[str]:
    """When the tasks of a tenant started, as text that sorts."""
    headers, params = {"X-Tenant-Id": tenant}, {"limit": 1000}
    answer = server.api.http.get("/v1/tasks", params=params, headers=headers)
    return [task["started_at"] for task in answer.json()["tasks"]]


def capacity(server: RunningServer) -> dict[str, float]:
    light: dict[str, float] = server.api.get("/v1/capacity").json()["light"]
    return light


@pytest.mark.timeout(3600)
def test_no_tenant_waits_behind_the_queue_of_another(start_server: StartServer, soak: bool) -> None:
    tasks = TASKS[soak]
    limit = {"DOCLING_SERVE_ENG_LOC_MAX_QUEUED_TASKS": str(tasks // 2)}
    server = start_server(SUBPROCESS_MODE | FORKED | limit)
    rss = server.rss()
    accepted = 0
    refused: list[int] = []
    senders = [name for name, share in SHARES.items() for _ in range(share * tasks // 10)]
    for number, tenant in enumerate(senders):
        answer = send(server, tenant, number)
        if answer.status_code == 200:
            accepted += 1
        else:
            assert answer.status_code == 429, answer.text
            refused.append(int(answer.headers["Retry-After"]))
    queued, expected = int(capacity(server)["queued"]), capacity(server)["expected_wait_s"]
    grown = server.rss() - rss

    eventually(lambda: not capacity(server)["queued"], within_s=3000, what="the queue is empty")
    began = sorted((start, tenant) for tenant in SHARES for start in starts(server, tenant))
    order = [tenant for _, tenant in began]
    places = {t: [n for n, who in enumerate(order, 1) if who == t] for t in SHARES}
    print(f"\n{accepted} accepted, {len(refused)} refused, {queued} queued at once")
    for tenant, own in places.items():
        print(f"  {tenant:<7} {len(own):4d} tasks, median place {statistics.median(own):.0f}")
    print(f"  Retry-After {sorted(set(refused))[:5]} s, expected wait {expected} s")
    ended = server.rss() - rss
    print(f"  gateway +{grown / 1e6:.1f} MB with the queue full, +{ended / 1e6:.1f} MB at the end")

    assert len(order) == accepted
    assert all(after >= 1 for after in refused)
    modest = max(places["modest"][-1], places["rare"][-1])
    in_their_time = Counter(order[places["modest"][0] : modest])
    assert in_their_time["greedy"] <= len(places["modest"]) + len(places["rare"]) + 2
    assert grown < RSS_LIMIT
