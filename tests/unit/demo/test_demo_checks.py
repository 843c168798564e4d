"""The demonstration's verdicts: what counts as a wrong text, and as memory that did not return."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from docling_serve.doctor.trial.memory import MemorySampler, Sample, is_still, peak
from examples.demo.checks import GATEWAY_GROWTH_LIMIT, memory_kept, wrong_texts
from examples.demo.plan import STEPS, expected_phrases, missing_phrases
from examples.demo.runs import Run, TaskRecord

IDLE = Sample(1.0, 100, 10, 0, 0, None)
BUSY = Sample(2.0, 105, 10, 900, 1, None)
REST = Sample(3.0, 104, 10, 0, 0, None)


def a_run(*, after: Sample = REST, busiest: Sample = BUSY, problem: str = "") -> Run:
    task = TaskRecord(STEPS[0], 1.0, 2.0, "text", 1, problem, IDLE, busiest, after)
    return Run("on", 0.5, IDLE, [task], [IDLE, busiest, after], [])


def test_a_run_that_gave_everything_back_passes() -> None:
    run = a_run()
    assert memory_kept(run) == []
    assert wrong_texts(run) == []


def test_a_worker_that_is_left_is_reported() -> None:
    assert memory_kept(a_run(after=replace(REST, workers=2))) == [
        "2 more worker process(es) than before are there"
    ]


def test_a_process_that_stood_by_before_the_first_task_is_no_leftover() -> None:
    idle = replace(IDLE, workers=1, worker_rss=250_000_000)
    run = replace(a_run(after=replace(REST, workers=1, worker_rss=260_000_000)), idle=idle)
    assert memory_kept(run) == []


def test_a_process_that_stands_by_must_not_keep_what_a_task_took() -> None:
    idle = replace(IDLE, workers=1, worker_rss=250_000_000)
    run = replace(a_run(after=replace(REST, workers=1, worker_rss=900_000_000)), idle=idle)
    assert memory_kept(run) == ["650 MB of the workers did not come back"]


def test_a_gateway_that_runs_models_itself_is_reported() -> None:
    run = replace(a_run(), gateway_engines=["onnxruntime"])
    assert memory_kept(run) == ["the gateway has loaded onnxruntime"]


def test_a_gateway_that_grew_is_reported() -> None:
    grown = replace(REST, gateway_rss=IDLE.gateway_rss + GATEWAY_GROWTH_LIMIT)
    assert memory_kept(a_run(after=grown)) == ["the gateway grew by 20 MB"]


def test_a_task_without_a_worker_is_reported() -> None:
    assert memory_kept(a_run(busiest=replace(BUSY, workers=0))) == [
        "a task did not run in a worker process"
    ]


def test_gpu_memory_that_stays_is_reported() -> None:
    run = a_run(after=replace(REST, gpu_used=700_000_000))
    run = replace(run, idle=replace(IDLE, gpu_used=18_000_000))
    assert memory_kept(run) == ["682 MB of GPU memory did not come back"]


def test_a_wrong_text_names_mode_document_and_way() -> None:
    (line,) = wrong_texts(a_run(problem="the text lacks 'ferry'"))
    assert line == "mode on, scan.pdf (upload, sync): the text lacks 'ferry'"


def test_phrases_are_found_across_line_breaks() -> None:
    assert missing_phrases("the reading\nroom  is open", ["reading room", "harbour"]) == ["harbour"]


@pytest.mark.parametrize("way", ["upload, sync", "upload, async", "base64, sync", "base64, async"])
def test_scans_travel_in_every_way(way: str) -> None:
    assert way in {step.way for step in STEPS if step.document.startswith("scan")}


def test_every_bundled_document_is_converted() -> None:
    assert {step.document for step in STEPS} == set(expected_phrases())
    assert all(step.path.is_file() for step in STEPS)


def test_peak_takes_each_figure_by_itself() -> None:
    highest = peak([replace(BUSY, gateway_rss=1), replace(REST, gpu_used=7)])
    assert (highest.gateway_rss, highest.worker_rss, highest.gpu_used) == (104, 900, 7)


@pytest.mark.parametrize(
    ("totals", "workers", "still"),
    [
        ([100, 100, 101], [1, 1, 1], True),
        ([900, 100, 101], [2, 1, 1], True),  # that was before
        ([100, 100, 103], [1, 1, 1], False),
        ([100, 100, 101], [1, 0, 1], False),
    ],
)
def test_memory_is_still_once_nothing_moves(
    totals: list[int], workers: list[int], still: bool
) -> None:
    samples = [
        Sample(float(second), total * 1_000_000, 0, 0, count, None)
        for second, (total, count) in enumerate(zip(totals, workers, strict=True))
    ]
    assert is_still(samples, for_s=1.5) is still
    assert not is_still(samples, for_s=9)


def test_the_sampler_reads_a_real_process_and_ends_with_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        sampler = MemorySampler(process.pid)
        sample = sampler.take()
        assert sample.gateway_rss > 0
        assert (sample.worker_rss, sample.workers) == (0, 0)
        assert sampler.engines() == []
        process.communicate()
    with pytest.raises(psutil.NoSuchProcess):
        sampler.take()
