"""A long PDF that several workers convert side by side."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FORKED, KEEP_WORKERS, StartServer
from tests.helpers import documents
from tests.helpers.api import upload
from tests.helpers.eventually import eventually
from tests.helpers.metrics_page import samples
from tests.helpers.server import START_LIMIT_S, SUBPROCESS_MODE, RunningServer

PAGES = 3
IN_SLICES = {
    "DOCLING_SERVE_SUBPROCESS_MAX_WORKERS": "2",
    "DOCLING_SERVE_SUBPROCESS_PAGE_FANOUT": "2",
}


@pytest.fixture(scope="module")
def scan() -> tuple[str, tuple[str, bytes]]:
    return upload("long.pdf", documents.scanned_pdf(PAGES))


@pytest.fixture(scope="module")
def two_workers(serve: StartServer) -> Iterator[RunningServer]:
    with serve(SUBPROCESS_MODE | FORKED | KEEP_WORKERS | IN_SLICES) as running:
        yield running


@pytest.mark.parametrize(
    ("form", "slices"),
    [
        ({"to_formats": ["json", "md"]}, ["p1-1", "p2-3"]),
        ({"to_formats": ["json"], "page_range": ["1", "3"], "include_page_images": "true"}, None),
        ({"to_formats": ["json"], "page_range": ["2", "3"]}, []),
    ],
    ids=["text", "page images", "too short to cut"],
)
def test_the_document_is_the_one_that_a_single_worker_makes(
    server: RunningServer,
    two_workers: RunningServer,
    scan: tuple[str, tuple[str, bytes]],
    form: dict[str, Any],
    slices: list[str] | None,
) -> None:
    before = {each: _pages(each) for each in (two_workers, server)}
    task = two_workers.api.submit(scan, form=form)
    in_slices = two_workers.api.succeed(task)
    whole = server.api.convert(scan, form=form).json()

    assert in_slices["document"] == whole["document"]
    assert in_slices["confidence"] == whole["confidence"]
    assert in_slices["status"] == whole["status"] == "success"
    first, last = map(int, form.get("page_range", [1, PAGES]))
    assert {_pages(each) - had for each, had in before.items()} == {last - first + 1}
    if slices is not None:
        assert [part for part in ("p1-1", "p2-3") if f"{task}.{part}:" in two_workers.log()] == (
            slices
        )


def _pages(server: RunningServer) -> float:
    return samples(server.api.get("/metrics").text, "docling_serve_pages_total")[""]


def test_a_lost_slice_costs_one_more_try(
    two_workers: RunningServer, scan: tuple[str, tuple[str, bytes]]
) -> None:
    task = two_workers.api.submit(scan)
    handed = eventually(
        lambda: two_workers.handed_over(f"{task}.p2-3"), within_s=START_LIMIT_S, what="it starts"
    )
    os.kill(handed.pid, signal.SIGKILL)

    text = two_workers.api.succeed(task)["document"]["md_content"]

    assert [f"Page {n}" in text for n in range(1, PAGES + 1)] == [True] * PAGES
    log = two_workers.log()
    assert log.count(f"{task}.p2-3: given to worker") == 2
    assert log.count(f"{task}.p1-1: given to worker") == 1
    assert "\nTraceback" not in log


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_ends_meanwhile_loses_nothing(
    start_server: StartServer,
    tmp_path: Path,
    scan: tuple[str, tuple[str, bytes]],
    end: signal.Signals,
) -> None:
    """Told to end, it finishes what runs; killed, it leaves the task for the next one."""
    kept = {
        "DOCLING_SERVE_SCRATCH_PATH": str(tmp_path / "kept"),
        "DOCLING_SERVE_SHUTDOWN_GRACE": str(START_LIMIT_S),
    }
    first = start_server(SUBPROCESS_MODE | FORKED | IN_SLICES | kept)
    task = first.api.submit(scan)
    eventually(lambda: first.handed_over(f"{task}.p2-3"), within_s=START_LIMIT_S, what="it is cut")
    first.signal(end)
    first.wait(START_LIMIT_S)
    first.assert_nothing_left()
    assert (f"task {task}: success" in first.log()) == (end is signal.SIGTERM)

    second = start_server(SUBPROCESS_MODE | FORKED | IN_SLICES | kept)
    text = second.api.succeed(task)["document"]["md_content"]

    assert [f"Page {n}" in text for n in range(1, PAGES + 1)] == [True] * PAGES


def test_a_page_range_beyond_the_end_is_answered_as_ever(
    server: RunningServer, two_workers: RunningServer, scan: tuple[str, tuple[str, bytes]]
) -> None:
    form = {"page_range": ["8", "9"]}

    one, other = (each.api.convert(scan, form=form).json() for each in (server, two_workers))

    assert one["status"] == other["status"]
    assert one["errors"] == other["errors"]
