"""Memory of a server and its workers over time, sampled in a thread.

The measure is RSS, what ``ps`` and ``top`` show. Its sum counts a page that two processes share
(mostly library code) twice, so it is if anything too high for the side with more processes, here
the mode on. PSS and USS avoid this, but depend on what else runs on the machine, and reading them
several times a second slows the very server that is measured.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil
from typing_extensions import Self

from docling_serve.vram.nvml import GpuProbe, GpuState

INTERVAL_S = 0.2
_STILL = 2_000_000
_ENGINES = ("libtorch", "onnxruntime")
# How multiprocessing starts a spawned process; its resource tracker has another command line.
_WORKER_MARK = "multiprocessing.spawn"


@dataclass(frozen=True)
class Sample:
    """One moment. ``time_s`` counts from the server's start; memory is in bytes.

    ``gateway_rss`` is the API process alone, ``helper_rss`` the small processes next to it,
    ``worker_rss`` the workers and their children. ``gpu_used`` is what all programs hold on the
    visible GPUs, None where there is no driver to query. ``listed`` are the processes of the server
    that the driver lists on a GPU, ``gateway_listed`` says whether the API process is one.
    """

    time_s: float
    gateway_rss: int
    helper_rss: int
    worker_rss: int
    workers: int
    gpu_used: int | None
    listed: int = 0
    gateway_listed: bool = False

    @property
    def total(self) -> int:
        """Memory of the whole server."""
        return self.gateway_rss + self.helper_rss + self.worker_rss


def peak(samples: Sequence[Sample]) -> Sample:
    """The highest value of each figure; these need not be from one moment."""
    return Sample(
        time_s=samples[-1].time_s,
        gateway_rss=max(sample.gateway_rss for sample in samples),
        helper_rss=max(sample.helper_rss for sample in samples),
        worker_rss=max(sample.worker_rss for sample in samples),
        workers=max(sample.workers for sample in samples),
        gpu_used=max((s.gpu_used for s in samples if s.gpu_used is not None), default=None),
        listed=max(sample.listed for sample in samples),
        gateway_listed=any(sample.gateway_listed for sample in samples),
    )


def is_still(samples: Sequence[Sample], for_s: float) -> bool:
    """Whether memory has not moved by more than 2 MB during the last ``for_s`` seconds, and no
    worker came or went. False while the samples do not go back that far."""
    since = samples[-1].time_s - for_s
    recent = [sample for sample in samples if sample.time_s >= since]
    totals = [sample.total for sample in recent]
    return (
        len(recent) < len(samples)
        and max(totals) - min(totals) < _STILL
        and len({sample.workers for sample in recent}) == 1
    )


class MemorySampler:
    """Samples the process tree under ``pid`` every ``INTERVAL_S`` seconds until closed."""

    def __init__(self, pid: int, probe: GpuProbe | None = None) -> None:
        self._gateway = psutil.Process(pid)
        self._probe = probe or GpuProbe()
        self._has_gpu = self._probe.read().state is not GpuState.NONE
        self.samples: list[Sample] = []
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="memory", daemon=True)

    def now_s(self) -> float:
        """Seconds since sampling began."""
        return time.monotonic() - self._began

    def take(self) -> Sample:
        """One sample, now; it is also kept.

        Raises:
            psutil.NoSuchProcess: the gateway has exited.
        """
        with self._lock:
            sample = self._sample()
            self.samples.append(sample)
            return sample

    def since(self, time_s: float) -> list[Sample]:
        """The samples from ``time_s`` on, and one taken now."""
        self.take()
        return [sample for sample in self.samples if sample.time_s >= time_s]

    def engines(self) -> list[str]:
        """Which libraries that run models the gateway has loaded."""
        mapped = Path(f"/proc/{self._gateway.pid}/maps").read_text(encoding="utf-8")
        return [name for name in _ENGINES if name in mapped]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self.take()
            except psutil.NoSuchProcess:
                return  # the server exited; its client will notice
            self._stop.wait(max(0.0, INTERVAL_S - (time.monotonic() - began)))

    def _sample(self) -> Sample:
        helper_rss, worker_rss = 0, 0
        pids, workers = {self._gateway.pid}, set[int]()
        for process in self._gateway.children(recursive=True):  # parents before their children
            try:
                rss = process.memory_info().rss
                is_worker = process.ppid() in workers or _is_worker(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it has just exited
            pids.add(process.pid)
            if is_worker and rss:  # a zombie holds nothing
                workers.add(process.pid)
                worker_rss += rss
            else:
                helper_rss += rss
        gpu_used, listed = self._gpu(pids)
        return Sample(
            time_s=self.now_s(),
            gateway_rss=self._gateway.memory_info().rss,
            helper_rss=helper_rss,
            worker_rss=worker_rss,
            workers=len(workers),
            gpu_used=gpu_used,
            listed=len(listed),
            gateway_listed=self._gateway.pid in listed,
        )

    def _gpu(self, pids: set[int]) -> tuple[int | None, frozenset[int]]:
        """What all programs hold on the GPUs, and which of ``pids`` are listed there."""
        if not self._has_gpu:
            return None, frozenset()
        reading = self._probe.read(max_age_s=INTERVAL_S / 2)
        if reading.state is not GpuState.KNOWN:
            return None, frozenset()
        return sum(device.used_bytes for device in reading.devices), reading.listed_pids(pids)


def _is_worker(process: psutil.Process) -> bool:
    return any(_WORKER_MARK in part for part in process.cmdline())
