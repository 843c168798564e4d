from __future__ import annotations

import os
import subprocess
import sys

import pytest

from docling_serve.subprocess_worker.pool.memory import MemoryRecord, tree_rss
from docling_serve.subprocess_worker.pool.metrics import SubprocessMetrics
from docling_serve.subprocess_worker.protocol.config import threads_per_worker
from docling_serve.subprocess_worker.protocol.messages import ConverterCounts


def test_overhead_is_told_in_percent_of_the_conversion() -> None:
    metrics = SubprocessMetrics()
    metrics.record_task(2.0, 1.0)
    metrics.record_task(task_time=2.0, overhead=0.5)

    assert (metrics.total_tasks, metrics.total_time, metrics.total_overhead) == (2, 4.0, 1.5)
    assert metrics.avg_overhead_pct == pytest.approx(37.5)


def test_before_the_first_task_there_is_no_overhead() -> None:
    assert SubprocessMetrics().avg_overhead_pct == 0.0


def test_a_task_that_was_all_overhead_divides_by_nothing() -> None:
    metrics = SubprocessMetrics()
    metrics.record_task(task_time=0.0, overhead=1.0)

    assert metrics.avg_overhead_pct == 0.0


def test_all_figures_by_name() -> None:
    metrics = SubprocessMetrics()
    metrics.record_task(1.0, 1.0)
    metrics.count_move("standby")
    metrics.count_stop("idle")
    metrics.count_loss("SIGSEGV")
    metrics.count_loss("SIGSEGV")

    assert metrics.as_dict() == {
        "tasks": 1,
        "task_seconds": 2.0,
        "overhead_seconds": 1.0,
        "avg_overhead_pct": 100.0,
        "workers_started": 0,
        "moves": {"standby": 1},
        "stops": {"idle": 1},
        "losses": {"SIGSEGV": 2},
        "retries": 0,
        "overhead_by_part": {"spawn": 0.0, "import": 0.0, "load": 0.0, "release": 0.0},
        "converter_hits": 0,
        "converter_misses": 0,
        "converter_hit_rate": None,
        "onnx_fallbacks": 0,
        "peak_rss_bytes": 0,
        "peak_vram_bytes": None,
    }


def test_overhead_is_told_by_part() -> None:
    metrics = SubprocessMetrics(import_seconds=7.5)
    metrics.count_move("standby", left="starting", after_s=8.0)
    metrics.count_move("busy", left="loading", after_s=2.0)
    metrics.count_move("busy", left="loading", after_s=1.0)
    metrics.count_move("stopped", left="releasing", after_s=0.25)

    assert metrics.overhead_by_part == {"spawn": 0.5, "import": 7.5, "load": 3.0, "release": 0.25}


def test_how_often_models_were_there_already() -> None:
    metrics = SubprocessMetrics()
    metrics.count_converters(ConverterCounts(hits=0, misses=1, model_sets=1))
    metrics.count_converters(ConverterCounts(hits=3, misses=0, model_sets=1))

    assert metrics.converter_hit_rate == 0.75


def test_memory_is_remembered_at_its_peak() -> None:
    record = MemoryRecord()
    for rss in (100, 300, 200):
        record.note(rss)

    assert (record.current, record.peak, record.growth) == (200, 300, 0)


def test_growth_counts_from_the_end_of_the_first_job() -> None:
    record = MemoryRecord()
    record.note(100)
    record.note_job_end(400)
    assert record.growth == 0
    record.note_job_end(450)
    assert record.growth == 50
    record.note_job_end(380)
    assert record.growth == 0


def test_memory_of_a_process_that_is_there_and_of_one_that_is_not() -> None:
    assert tree_rss(os.getpid()) > 1_000_000
    assert tree_rss(2**22 + 1) == 0


def test_memory_of_a_process_counts_what_it_has_started() -> None:
    large = "x = b'1' * 60_000_000; print('there', flush=True); input()"
    small = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {large!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", small], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()

        assert tree_rss(process.pid) > 60_000_000
        process.communicate(b"\n")


def test_processors_are_divided_and_each_worker_gets_one() -> None:
    available = len(os.sched_getaffinity(0))

    assert threads_per_worker(1) == available
    assert threads_per_worker(available * 4) == 1
