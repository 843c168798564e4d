"""What a client may rely on, whichever engine runs its task.

Each test runs on each engine; where an engine differs, ``differences.py`` says so. The document
that hangs does so in the middle of a page, in an OCR engine that fails on purpose (tests/plugins).
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from docling_serve.errors import CANCELLED
from tests.helpers.api import SLIP, Api, missing_phrases, upload
from tests.helpers.eventually import eventually
from tests.helpers.failing_documents import PAGE, faulty
from tests.helpers.process_ends import has_ended
from tests.helpers.receiver import Received, Receiver, receiver
from tests.helpers.server import ORPHAN_LIMIT_S, START_LIMIT_S
from tests.integration.promises.differences import difference
from tests.integration.promises.fleet import Fleet

HASTY_LIMIT_S = 5


def page(api: Api, do: str = "nothing", marker: Path | None = None, **headers: str) -> str:
    """Submit a page without text that does ``do``; with a ``marker``, at the first try only."""
    return api.submit(upload(*PAGE), form=faulty(do, marker), **headers)


@contextmanager
def busy(fleet: Fleet) -> Iterator[str]:
    """The host is in the middle of a task, whose id is yielded, until the end of the block."""
    task = page(fleet.here, "hang")
    try:
        fleet.worker_of(task)
        yield task
    finally:
        fleet.there.http.delete(f"/v1/tasks/{task}")


def wait_for_marker(marker: Path) -> None:
    """Until the first try has come to where it hangs."""
    eventually(
        lambda: marker.stat().st_mtime > 0, within_s=START_LIMIT_S, what="the page is reached"
    )


# ---- a task --------------------------------------------------------------------------------------


def test_accept(fleet: Fleet) -> None:
    """What one gateway accepts every gateway knows and answers."""
    scan, notes = (fleet.here.submit(upload(name)) for name in (SLIP, "notes.md"))

    assert fleet.there.poll(notes)["task_id"] == notes
    assert missing_phrases(SLIP, _text(fleet.there, scan)) == []
    assert missing_phrases("notes.md", _text(fleet.there, notes)) == []
    assert len(fleet.runs(scan)) == 1


def test_order(fleet: Fleet) -> None:
    """Tasks of one tenant run in the order in which they were accepted, and know their place."""
    with busy(fleet):
        tasks = [page(api) for api in (fleet.here, fleet.there, fleet.here)]
        assert [fleet.there.poll(task)["task_position"] for task in tasks] == [1, 2, 3]

    for task in tasks:
        assert fleet.here.finish(task)["task_status"] == "success"
    assert [task for task in fleet.run_order() if task in tasks] == tasks


def test_turns(fleet: Fleet) -> None:
    """A tenant does not wait for all that another one has queued."""
    with busy(fleet):
        many = [page(fleet.here) for _ in range(3)]
        one = page(fleet.there, X_Tenant_Id="acme")

    for task in many:
        assert fleet.here.finish(task)["task_status"] == "success"
    assert _wait_as("acme", fleet.here, one)["task_status"] == "success"
    order = [task for task in fleet.run_order() if task in (*many, one)]
    assert order.index(one) < order.index(many[-1])


def test_repeat(fleet: Fleet) -> None:
    """A request that is sent again with its key, to any gateway, creates no second task."""
    first, again = (
        api.submit(upload("notes.md"), Idempotency_Key=fleet.engine)
        for api in (fleet.here, fleet.there)
    )

    assert first == again
    assert fleet.here.finish(first)["task_status"] == "success"


def test_progress(fleet: Fleet) -> None:
    """The events of a task, on any gateway, lead from its start to its end."""
    task = fleet.here.submit(upload(SLIP))

    events = list(_events(fleet.there, task))

    states = [event["task_status"] for event in events]
    assert states == sorted(states, key=["pending", "started", "success"].index)
    working = [event["task_meta"] for event in events if event["task_status"] == "started"]
    assert any(meta and meta["phase"] for meta in working), events
    assert [event["task_id"] for event in events] == [task] * len(events)
    assert events[-1]["task_meta"]["num_succeeded"] == 1


def test_wait(fleet: Fleet) -> None:
    """A client that waits gets its answer at the end of the task, in one request."""
    task = fleet.here.submit(upload(SLIP))
    waited = fleet.there.poll(task, wait_s=100)
    at_once = fleet.here.convert(upload("notes.md"))

    assert waited["task_status"] == "success"
    assert at_once.status_code == 200, at_once.text
    assert missing_phrases("notes.md", at_once.json()["document"]["md_content"]) == []


def test_cancel_queued(fleet: Fleet) -> None:
    """A waiting task that is deleted never runs, and those behind it move up."""
    with busy(fleet):
        gone, kept = page(fleet.here), page(fleet.here)
        deleted = fleet.there.http.delete(f"/v1/tasks/{gone}")
        assert deleted.json()["failure"]["details"]["reason"] == "cancelled"
        assert fleet.here.poll(kept)["task_position"] == 1

    assert fleet.here.finish(kept)["task_status"] == "success"
    assert fleet.runs(gone) == []
    assert _is_unknown(fleet.here, gone)


def test_cancel_running(fleet: Fleet) -> None:
    """A running task that is deleted ends with its worker, and the next one runs."""
    task = page(fleet.here, "hang")
    worker = fleet.worker_of(task)

    deleted = fleet.there.http.delete(f"/v1/tasks/{task}")

    assert deleted.json()["failure"]["category"] == CANCELLED.category
    assert has_ended(worker)
    assert _is_unknown(fleet.here, task)
    assert fleet.here.finish(page(fleet.here))["task_status"] == "success"


def test_single_use(fleet: Fleet) -> None:
    """A result that was fetched is removed, on every gateway; another one stays."""
    fetched, other = (fleet.here.submit(upload("notes.md")) for _ in range(2))
    for task in (fetched, other):
        assert fleet.here.finish(task)["task_status"] == "success"
    assert fleet.there.result(fetched).status_code == 200

    eventually(
        lambda: _is_unknown(fleet.here, fetched) and _is_unknown(fleet.there, fetched),
        within_s=ORPHAN_LIMIT_S,
        what="the fetched result is removed",
    )
    assert fleet.here.result(fetched).status_code == 404
    assert fleet.there.result(other).status_code == 200


def test_tenants_are_kept_apart(fleet: Fleet) -> None:
    """A tenant's task does not exist for another tenant."""
    task = fleet.here.submit(upload("notes.md"), X_Tenant_Id="acme")
    acme = {"X-Tenant-Id": "acme"}
    assert _wait_as("acme", fleet.there, task)["task_status"] == "success"

    assert _is_unknown(fleet.here, task)
    assert fleet.here.result(task).status_code == 404
    assert fleet.here.http.delete(f"/v1/tasks/{task}").status_code == 404
    assert task not in _listed(fleet.there, {})
    assert task in _listed(fleet.there, acme)
    assert fleet.there.http.get(f"/v1/result/{task}", headers=acme).status_code == 200


def test_callback(fleet: Fleet) -> None:
    """The address that a request names receives the events of its task in order, the end once; a
    task that is cancelled while it waits sends its end too."""
    with receiver() as listener:
        form = {"callbacks": json.dumps({"url": listener.url})}
        done = fleet.here.submit(upload("notes.md"), form=form)
        assert fleet.here.finish(done)["task_status"] == "success"
        with busy(fleet):
            cancelled = fleet.here.submit(upload("notes.md"), form=form)
            fleet.there.http.delete(f"/v1/tasks/{cancelled}")
        for task, last in ((done, "success"), (cancelled, "failure")):
            assert _end_of(task, listener)["task_status"] == last

        assert _kinds(listener.got, done) == [
            *("set_num_docs", "document_completed", "update_processed"),
            "task_completed",
        ]
        assert _kinds(listener.got, cancelled) == ["task_completed"]


# ---- things that go wrong ------------------------------------------------------------------------


def test_worker_killed(fleet: Fleet, tmp_path: Path) -> None:
    """A task whose worker was lost is tried again, in another one."""
    task = page(fleet.here, "hang", marker := tmp_path / "marker")
    wait_for_marker(marker)
    os.kill(fleet.worker_of(task), signal.SIGKILL)

    assert fleet.there.finish(task)["task_status"] == "success"
    assert len(set(fleet.runs(task))) == 2


def test_host_killed(fleet: Fleet, tmp_path: Path) -> None:
    """The loss of a host costs no task, and no finished result; its workers end with it."""
    finished = fleet.here.submit(upload("notes.md"))
    assert fleet.here.finish(finished)["task_status"] == "success"
    running = page(fleet.here, "hang", marker := tmp_path / "marker")
    waiting = page(fleet.here)
    worker = fleet.worker_of(running)
    wait_for_marker(marker)

    fleet.kill_host()
    assert has_ended(worker)
    fleet.hasten_loss(running)
    fleet.use_host()

    assert fleet.there.finish(running)["task_status"] == "success"
    assert fleet.here.finish(waiting)["task_status"] == "success"
    assert missing_phrases("notes.md", _text(fleet.there, finished)) == []


def test_store_restarted(fleet: Fleet) -> None:
    """While the store is away clients are asked to come back; then everything is as before."""
    if differs := difference("store restarted", fleet.engine):
        pytest.skip(f"{differs.what} {differs.why}")
    finished = fleet.here.submit(upload("notes.md"))
    assert fleet.here.finish(finished)["task_status"] == "success"
    with busy(fleet) as running:
        waiting = page(fleet.here)

        fleet.stop_store()
        for api in (fleet.here, fleet.there):
            refused = api.get(f"/v1/status/poll/{running}")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert api.get("/ready").status_code == 503
            assert api.get("/livez").status_code == 200
        fleet.start_store()

        assert fleet.there.poll(running)["task_status"] == "started"
    assert fleet.there.finish(waiting)["task_status"] == "success"
    assert missing_phrases("notes.md", _text(fleet.there, finished)) == []
    assert fleet.there.get("/ready").status_code == 200


def test_shutdown(fleet: Fleet) -> None:
    """A host that is asked to end finishes what it has; the next one takes what waits."""
    running, waiting = (fleet.here.submit(upload(name)) for name in (SLIP, "notes.md"))
    fleet.worker_of(running)

    fleet.stop_host()
    fleet.use_host(HASTY_LIMIT_S)

    assert missing_phrases(SLIP, _text(fleet.there, running)) == []
    assert missing_phrases("notes.md", _text(fleet.there, waiting)) == []
    assert len(fleet.runs(running)) == 1


def test_time_limit(running_fleet: Fleet) -> None:
    """A task that takes too long is stopped with its worker, and the next one runs."""
    fleet = running_fleet
    fleet.use_host(HASTY_LIMIT_S)
    task = page(fleet.here, "hang")
    worker = fleet.worker_of(task)

    failed = fleet.there.finish(task)

    assert failed["failure"]["category"] == "timeout"
    assert failed["failure"]["details"]["limit"] == "subprocess_timeout"
    assert has_ended(worker)
    assert fleet.here.finish(page(fleet.here))["task_status"] == "success"


# ---- what a client reads -------------------------------------------------------------------------


def _text(api: Api, task: str) -> str:
    return str(api.succeed(task)["document"]["md_content"])


def _wait_as(tenant: str, api: Api, task: str) -> dict[str, Any]:
    headers = {"X-Tenant-Id": tenant}
    polled = api.http.get(f"/v1/status/poll/{task}", params={"wait": 100}, headers=headers)
    status: dict[str, Any] = polled.json()
    return status


def _is_unknown(api: Api, task: str) -> bool:
    return api.get(f"/v1/status/poll/{task}").status_code == 404


def _listed(api: Api, headers: dict[str, str]) -> list[str]:
    listed = api.http.get("/v1/tasks", params={"limit": 1000}, headers=headers)
    return [task["task_id"] for task in listed.json()["tasks"]]


def _events(api: Api, task: str) -> Iterator[dict[str, Any]]:
    with api.http.stream("GET", f"/v1/tasks/{task}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                yield json.loads(line.removeprefix("data:"))


def _end_of(task: str, listener: Receiver) -> dict[str, Any]:
    """Wait for the last event of a task."""
    eventually(
        lambda: "task_completed" in _kinds(listener.got, task),
        within_s=ORPHAN_LIMIT_S,
        what="the last event arrives",
    )
    end: dict[str, Any] = _told(listener.got, task)[-1]["progress"]
    return end


def _told(received: list[Received], task: str) -> list[dict[str, Any]]:
    bodies = [json.loads(request.body) for request in received]
    return [body for body in bodies if body["task_id"] == task]


def _kinds(received: list[Received], task: str) -> list[str]:
    return [body["progress"]["kind"] for body in _told(received, task)]
