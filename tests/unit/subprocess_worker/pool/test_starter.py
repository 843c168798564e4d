from __future__ import annotations

import importlib.util
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from docling_serve.errors import ShuttingDown
from docling_serve.process.guardian import Guardian
from docling_serve.subprocess_worker.child.template import TemplateReport, preload_modules
from docling_serve.subprocess_worker.pool.starter import StartBackoff, Starter
from docling_serve.subprocess_worker.protocol.config import StartMethod, WorkerPoolConfig
from tests.helpers import scriptable_child
from tests.helpers.pools import ScriptedJob, open_pool, pool_config
from tests.helpers.process_ends import has_ended

FIT = TemplateReport(loaded=True, threads=1, cuda=False)


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({}, None),
        ({"loaded": False}, "imports failed"),
        ({"threads": 3}, "3 threads"),
        ({"cuda": True}, "CUDA"),
    ],
)
def test_what_makes_a_template_unfit(change: dict[str, Any], because: str | None) -> None:
    report = TemplateReport(**{**asdict(FIT), **change})

    if because is None:
        assert report.unfit_because is None
    else:
        assert because in str(report.unfit_because)


@pytest.mark.parametrize("text", [b"", b"{", b'{"loaded": true}', b"[]"])
def test_a_report_that_is_none_is_an_error(text: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        TemplateReport.from_wire(text)


@pytest.mark.parametrize("plugins", [False, True])
@pytest.mark.parametrize("torch", [False, True])
def test_the_template_modules_are_there(plugins: bool, torch: bool) -> None:
    modules = preload_modules(plugins, torch=torch)

    assert len(modules) == 1 + torch
    assert all(importlib.util.find_spec(module) is not None for module in modules)


@pytest.mark.usefixtures("nothing_is_left")
async def test_an_unfit_template_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The fork server of these tests has nothing imported that converts."""
    async with open_pool(start_method="forkserver") as pool:
        await pool.start()
        await ScriptedJob.make(tmp_path).run(pool)
        assert pool.snapshot().start_method == "spawn"
    assert "workers are spawned: its imports failed" in caplog.text


class KillsAll(Guardian):
    """Has everything killed at the moment at which a process has just been started."""

    starter: Starter

    def watch(self, pid: int) -> None:
        super().watch(pid)
        self.pid = pid
        self.starter.kill_all()


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
async def test_a_process_that_starts_while_all_are_killed_is_killed_too(
    method: StartMethod,
) -> None:
    """The interpreter waits at its end for every process that it has started."""
    guardian = KillsAll()
    starter = Starter(pool_config(start_method=method), scriptable_child.main, guardian)
    guardian.starter = starter
    with pytest.raises(ShuttingDown):
        await starter.start(1)
    assert has_ended(guardian.pid)
    with pytest.raises(ShuttingDown):
        await starter.start(2)
    starter.folders.close()
    starter.close()
    guardian.dismiss()


@pytest.mark.usefixtures("nothing_is_left")
async def test_every_process_is_started_from_one_thread_that_stays() -> None:
    """The kernel's parent-death signal follows the thread that started a process."""
    before = set(threading.enumerate())
    starter = Starter(pool_config(), scriptable_child.main)
    for number in range(3):
        started = await starter.start(number)
        started.process.kill()
        assert await starter.reap(started.process) == -9
        started.channel.close()
        started.output.close()
    assert len(set(threading.enumerate()) - before) == 1
    starter.folders.close()
    starter.close()


def test_a_start_waits_twice_as_long_after_each_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("docling_serve.subprocess_worker.pool.starter.time.monotonic", lambda: now)
    backoff = StartBackoff(WorkerPoolConfig().start_backoff_s)
    delays = []
    for _ in range(7):
        backoff.failed()
        delays.append(backoff.no_start_before - now)
    assert delays == [1, 2, 4, 8, 16, 30, 30]

    backoff.succeeded()
    assert backoff.failures == 0
    backoff.failed()
    assert backoff.no_start_before - now == 1
