"""One engine with all that it needs: gateways, hosts that convert, and a store, all of it real."""

from __future__ import annotations

import re
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.conftest import FORKED, KEEP_WORKERS
from tests.helpers.api import Api
from tests.helpers.eventually import eventually
from tests.helpers.server import (
    NOTHING_KEPT,
    START_LIMIT_S,
    STOP_LIMIT_S,
    SUBPROCESS_MODE,
    WITH_FAULTY_OCR,
    RunningServer,
)

#: Of one task. Tests that need a short limit ask for a host that has it.
TIME_LIMIT_S = 300
REMOVAL_DELAY_S = 1

#: One worker, and one line for all documents, so that a hanging task holds up those behind it.
COMMON = (
    SUBPROCESS_MODE
    | FORKED
    | NOTHING_KEPT
    | KEEP_WORKERS
    | WITH_FAULTY_OCR
    | {
        "DOCLING_SERVE_SUBPROCESS_MAX_WORKERS": "1",
        "DOCLING_SERVE_SUBPROCESS_LIGHT_WORKERS": "0",
        "DOCLING_SERVE_RESULT_REMOVAL_DELAY": str(REMOVAL_DELAY_S),
    }
)

_HANDED_OVER = re.compile(
    r"^(\d\S+ \S+) .*task (\S+): given to worker \d+ \(pid (\d+)\)", re.MULTILINE
)


def time_limit(seconds: int) -> dict[str, str]:
    """The setting that limits a task."""
    return {"DOCLING_SERVE_SUBPROCESS_TIMEOUT": str(seconds)}


class Fleet(ABC):
    """``engine`` is its name. A *host* is what a machine that converts runs: what is lost with it
    are its workers. There is one at a time; ``use_host`` starts it."""

    engine: str

    # ---- gateways ---------------------------------------------------------------------------

    @property
    @abstractmethod
    def here(self) -> Api:
        """A gateway."""

    @property
    @abstractmethod
    def there(self) -> Api:
        """Another one, where there are two."""

    # ---- hosts ------------------------------------------------------------------------------

    @abstractmethod
    def use_host(self, time_limit_s: int = TIME_LIMIT_S) -> None:
        """See to it that a host with this limit for a task runs."""

    @abstractmethod
    def stop_host(self) -> None:
        """Ask the host to end, as an operator does, and wait until nothing of it is left."""

    @abstractmethod
    def kill_host(self) -> None:
        """SIGKILL, and wait until nothing of the host is left."""

    def hasten_loss(self, task_id: str) -> None:
        """Let the engine find at once that the host of a task is gone, where it waits for that."""
        del task_id

    @abstractmethod
    def host_logs(self) -> list[str]:
        """What each host has logged, those that are gone included."""

    # ---- the store --------------------------------------------------------------------------

    @abstractmethod
    def stop_store(self) -> None:
        """End the store in an orderly way."""

    @abstractmethod
    def start_store(self) -> None:
        """Start it again, with what it had."""

    # ---- what hosts have done ---------------------------------------------------------------

    def runs(self, task_id: str) -> list[int]:
        """The pids of the workers that had a task, one for each try."""
        return [pid for task, pid in self._handed_over() if task == task_id]

    def run_order(self) -> list[str]:
        """The tasks that workers had, in order, one entry for each try."""
        return [task for task, _ in self._handed_over()]

    def worker_of(self, task_id: str) -> int:
        """Wait until the task has begun, as a client sees it; returns the pid of its worker. It may
        have ended since."""
        eventually(
            lambda: self.here.poll(task_id)["task_status"] != "pending" and self.runs(task_id),
            within_s=START_LIMIT_S,
            what=lambda: f"task {task_id} runs\n{self.log_tail()}",
        )
        return self.runs(task_id)[-1]

    def log_tail(self) -> str:
        """The end of the logs of all hosts, for messages."""
        return "\n".join(log[-5000:] for log in self.host_logs())

    def _handed_over(self) -> list[tuple[str, int]]:
        found = [found for log in self.host_logs() for found in _HANDED_OVER.findall(log)]
        return [(task, int(pid)) for _, task, pid in sorted(found)]

    # ---- life -------------------------------------------------------------------------------

    @abstractmethod
    def start(self) -> None:
        """Start everything."""

    @abstractmethod
    def close(self) -> None:
        """Stop everything; nothing may be left of it."""

    @abstractmethod
    def sweep(self) -> None:
        """Kill whatever is left."""


class ProcessFleet(Fleet):
    """A fleet whose host is one process."""

    def __init__(self, new_folder: Callable[[], Path], known_servers: list[RunningServer]) -> None:
        self._new_folder = new_folder
        self._known_servers = known_servers
        self._hosts: list[RunningServer] = []
        self._time_limit_s = 0

    @abstractmethod
    def new_host(self, settings: Mapping[str, str]) -> RunningServer:
        """A host that is not started yet."""

    @property
    def host(self) -> RunningServer:
        """The host that was started last."""
        return self._hosts[-1]

    def use_host(self, time_limit_s: int = TIME_LIMIT_S) -> None:
        if self._hosts and self.host.running:
            if self._time_limit_s == time_limit_s:
                return
            self.stop_host()
        host = self.new_host(COMMON | time_limit(time_limit_s))
        self._known_servers.append(host)
        self._hosts.append(host)
        self._time_limit_s = time_limit_s
        host.start()

    def stop_host(self) -> None:
        self.host.signal(signal.SIGTERM)
        assert self.host.wait(STOP_LIMIT_S) in (0, -signal.SIGTERM)
        self.host.assert_nothing_left()

    def kill_host(self) -> None:
        self.host.kill()
        self.host.assert_nothing_left()

    def host_logs(self) -> list[str]:
        return [host.log() for host in self._hosts]

    def close(self) -> None:
        if self._hosts and self.host.running:
            self.stop_host()

    def sweep(self) -> None:
        for host in self._hosts:
            host.sweep()
