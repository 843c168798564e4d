"""What isolation costs: counts and seconds, summed since the pool was created."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from docling_serve.jobs.spec import OnnxUse
from docling_serve.subprocess_worker.protocol.messages import ConverterCounts


@dataclass
class SubprocessMetrics:
    """Sums over all tasks that ended with a result.

    ``total_time`` is the seconds that conversion took. ``total_overhead`` is what was added, from
    hand-over to the pool until the answer: the wait for a worker, its start and imports, hand-over,
    and the way back. If all workers are busy, that wait includes the task before.
    """

    total_tasks: int = 0
    total_time: float = 0.0
    total_overhead: float = 0.0
    workers_started: int = 0
    #: How often workers entered each state, by its name.
    moves: Counter[str] = field(default_factory=Counter)
    #: The most memory that one worker had: on the host, with its child processes, and on the GPU,
    #: None while unknown.
    peak_rss_bytes: int = 0
    peak_vram_bytes: int | None = None
    #: How many workers exited, by reason.
    stops: Counter[str] = field(default_factory=Counter)
    #: How many workers were lost in mid-job, by signal or exit code.
    losses: Counter[str] = field(default_factory=Counter)
    #: How often a task was retried.
    retries: int = 0
    #: Seconds that workers spent in each state, by its name; counted when they leave it.
    state_seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    #: Seconds spent on imports, in all starts.
    import_seconds: float = 0.0
    #: How often a task found its models loaded in its worker, and how often not.
    converter_hits: int = 0
    converter_misses: int = 0
    #: How many tasks ONNX Runtime ran on a provider other than the requested one.
    onnx_fallbacks: int = 0

    @property
    def avg_overhead_pct(self) -> float:
        """Overhead as a percentage of the task's own time, 0 before the first task."""
        return 100.0 * self.total_overhead / self.total_time if self.total_time > 0 else 0.0

    @property
    def converter_hit_rate(self) -> float | None:
        """The share of tasks that found their models loaded; None before the first."""
        lookups = self.converter_hits + self.converter_misses
        return self.converter_hits / lookups if lookups else None

    @property
    def overhead_by_part(self) -> dict[str, float]:
        """Seconds that isolation cost, by cause: creating processes (``spawn``), their ``import``
        of libraries, their ``load`` of models, and the wait until a dead worker's GPU memory was
        free (``release``)."""
        starting = self.state_seconds["starting"]
        return {
            "spawn": max(0.0, starting - self.import_seconds),
            "import": self.import_seconds,
            "load": self.state_seconds["loading"],
            "release": self.state_seconds["releasing"],
        }

    def record_task(self, task_time: float, overhead: float) -> None:
        """Count a finished task: its conversion took ``task_time`` seconds, the rest
        ``overhead``."""
        self.total_tasks += 1
        self.total_time += task_time
        self.total_overhead += overhead

    def count_move(self, state: str, left: str = "", after_s: float = 0.0) -> None:
        """A worker entered ``state``; it ``left`` another one after that many seconds there."""
        self.moves[state] += 1
        if left:
            self.state_seconds[left] += after_s

    def count_converters(self, counts: ConverterCounts) -> None:
        """A worker's task has ended, with these lookups of models."""
        self.converter_hits += counts.hits
        self.converter_misses += counts.misses

    def count_onnx(self, use: OnnxUse | None) -> None:
        """A task has ended in which ONNX Runtime ran as ``use`` says; None if it did not run."""
        self.onnx_fallbacks += use is not None and use.differs

    def count_stop(self, reason: str) -> None:
        """A worker has exited for ``reason``."""
        self.stops[reason] += 1

    def note_peak(self, rss_bytes: int, vram_bytes: int | None) -> None:
        """A worker held this much memory."""
        self.peak_rss_bytes = max(self.peak_rss_bytes, rss_bytes)
        if vram_bytes is not None:
            self.peak_vram_bytes = max(self.peak_vram_bytes or 0, vram_bytes)

    def count_loss(self, exit_text: str) -> None:
        """A worker exited in mid-job with ``exit_text``."""
        self.losses[exit_text] += 1

    def as_dict(self) -> dict[str, Any]:
        """All figures by name."""
        return {
            "tasks": self.total_tasks,
            "task_seconds": self.total_time + self.total_overhead,
            "overhead_seconds": self.total_overhead,
            "avg_overhead_pct": self.avg_overhead_pct,
            "workers_started": self.workers_started,
            "peak_rss_bytes": self.peak_rss_bytes,
            "peak_vram_bytes": self.peak_vram_bytes,
            "moves": dict(self.moves),
            "stops": dict(self.stops),
            "losses": dict(self.losses),
            "retries": self.retries,
            "overhead_by_part": {k: round(v, 3) for k, v in self.overhead_by_part.items()},
            "converter_hits": self.converter_hits,
            "converter_misses": self.converter_misses,
            "converter_hit_rate": self.converter_hit_rate,
            "onnx_fallbacks": self.onnx_fallbacks,
        }
