"""A ``docling-serve rq-worker`` in a process of its own, watched from outside like a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.helpers.eventually import eventually
from tests.helpers.server import START_LIMIT_S, RunningServer

_LISTENS = "*** Listening on"


class RunningRqWorker(RunningServer):
    """Started once it listens to its queues. It answers no request."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        super().__init__(folder, env, command=lambda _: ["-m", "docling_serve", "rq-worker"])

    def wait_for(self, task_id: str) -> int:
        """Wait until a worker process of its own has the task; returns the pid of that."""
        handed = eventually(
            lambda: self.handed_over(task_id),
            within_s=START_LIMIT_S,
            what=lambda: f"task {task_id} is given to a worker\n{self.log_tail()}",
        )
        assert handed is not None
        return handed.pid

    def _answers(self) -> bool:
        code = self._started.poll()
        assert code is None, f"the worker ended with code {code} at its start\n{self.log_tail()}"
        return _LISTENS in self.log()
