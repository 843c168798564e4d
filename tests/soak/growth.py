"""Memory against task number: readings, and the straight line through them."""

from __future__ import annotations

from dataclasses import dataclass, field

import psutil

from tests.helpers.server import RunningServer

_MB = 1e6


@dataclass(frozen=True)
class Reading:
    """Bytes and counts after ``tasks`` tasks."""

    tasks: int
    gateway: int
    tree: int
    descriptors: int


@dataclass
class Growth:
    """Readings of one server."""

    server: RunningServer
    readings: list[Reading] = field(default_factory=list)

    def read(self, tasks: int) -> None:
        """Take one now."""
        gateway = psutil.Process(self.server.pid)
        rss = gateway.memory_info().rss
        below = 0
        for process in gateway.children(recursive=True):
            try:
                below += process.memory_info().rss
            except psutil.NoSuchProcess:  # it ended while we counted
                continue
        self.readings.append(Reading(tasks, rss, rss + below, self.server.descriptors()))

    def slope(self, name: str) -> float:
        """Bytes per task of ``name``, by least squares; the first third is warming up."""
        points = self.readings[len(self.readings) // 3 :]
        tasks = [float(point.tasks) for point in points]
        values = [float(getattr(point, name)) for point in points]
        mean_x, mean_y = sum(tasks) / len(tasks), sum(values) / len(values)
        spread = sum((x - mean_x) ** 2 for x in tasks)
        return sum((x - mean_x) * (y - mean_y) for x, y in zip(tasks, values, strict=True)) / spread

    def table(self) -> str:
        """All readings, and the slopes."""
        rows = ["  tasks  gateway MB   tree MB  descriptors"]
        rows += [
            f"{r.tasks:7d}  {r.gateway / _MB:10.1f}  {r.tree / _MB:8.1f}  {r.descriptors:11d}"
            for r in self.readings
        ]
        rows += [
            f"slope of {name}: {self.slope(name) / 1000:+.2f} kB a task"
            for name in ("gateway", "tree")
        ]
        return "\n".join(rows)
