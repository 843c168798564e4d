"""A server of our own, started as users start it, and watched from outside."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import httpx
import psutil

from tests.helpers import server_processes as processes
from tests.helpers.api import Api
from tests.helpers.eventually import eventually
from tests.helpers.ports import HeldPort

REPOSITORY = Path(__file__).parents[2]
OCR_ONLY = REPOSITORY / "examples" / "ocr-only.yaml"
EMBEDDED = REPOSITORY / "examples" / "embedded.yaml"
PLUGINS = REPOSITORY / "tests" / "plugins"

START_LIMIT_S = 120.0
STOP_LIMIT_S = 45.0  # beyond the default shutdown_grace
#: A worker that lost its server ends at once, the scratch janitor takes a second, a fork server
#: ends when its imports are done.
ORPHAN_LIMIT_S = 60.0

#: Requests may choose the OCR engine that fails on purpose.
WITH_FAULTY_OCR = {
    "PYTHONPATH": os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH")])),
    "DOCLING_SERVE_ALLOW_CUSTOM_OCR_CONFIG": "true",
}
SUBPROCESS_MODE = {"DOCLING_SERVE_USE_SUBPROCESS": "true"}
#: Without a standby process, which the mode keeps otherwise.
NOTHING_KEPT = {"DOCLING_SERVE_SUBPROCESS_PREWARM": "0"}
IN_PROCESS_MODE = {"DOCLING_SERVE_USE_SUBPROCESS": "false"}

_HANDED_OVER = re.compile(r"task (\S+): given to worker (\d+) \(pid (\d+)\)")
_MOVED = re.compile(r"worker \d+: \S+ -> (\S+) \(pid (\d+)")
_OURS = ("DOCLING_SERVE_", "UVICORN_")

Command = Callable[[int], Sequence[str]]
"""The command that serves on a port of 127.0.0.1."""


def documented_command(port: int) -> Sequence[str]:
    """What the documentation tells users to run."""
    return ["-m", "docling_serve", "run", "--host", "127.0.0.1", "--port", str(port)]


@dataclass(frozen=True)
class HandedOver:
    """A line of the log: which worker got a task."""

    task_id: str
    worker: int
    pid: int


class RunningServer:
    """A server in a process of its own, on a free port, with a temporary folder of its own, in
    which its scratch folder is; ``DOCLING_SERVE_SCRATCH_PATH`` in ``env`` has it keep its tasks.

    ``env`` are its settings, ``config`` its config file, ``probe`` the path that answers 200 once
    it is up, ``tls`` what trusts its certificate if it has one. Use it as a context manager:
    leaving stops it and asserts that nothing of it is left.
    """

    def __init__(
        self,
        folder: Path,
        env: Mapping[str, str] | None = None,
        *,
        config: Path | None = OCR_ONLY,
        probe: str = "/ready",
        command: Command = documented_command,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.mark = uuid.uuid4().hex
        self.folder = folder
        self.temp = folder / "temp"
        self.scratch = self.temp
        self.log_file = folder / "server.log"
        self._held_port = HeldPort()
        self.port = self._held_port.number
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.tls = tls or ssl.create_default_context()
        self.api = Api(self.url, headers, self.tls)
        self._probe = probe
        self._command = command
        self._env = self._environment(env or {}, config)
        self._popen: subprocess.Popen[bytes] | None = None

    # ---- life -------------------------------------------------------------------------------

    def start(self) -> RunningServer:
        """Start it and wait until it answers."""
        self.temp.mkdir(parents=True)
        leash = str(Path(__file__).with_name("leashed.py"))
        with self.log_file.open("wb") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-IS", leash, sys.executable, *self._command(self.port)],
                env=self._env,
                cwd=self.folder,  # no .env of the checkout
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # as a shell starts a job: a group that Ctrl-C reaches
            )
        try:
            eventually(self._answers, within_s=START_LIMIT_S, what=f"{self._probe} answers 200")
        except BaseException:
            self.sweep()
            raise
        return self

    def stop(self) -> int:
        """SIGTERM, and wait for the end; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(STOP_LIMIT_S)

    def kill(self) -> None:
        """SIGKILL, and wait until the kernel is done with it."""
        self.signal(signal.SIGKILL)
        self.wait(STOP_LIMIT_S)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server process alone."""
        self._started.send_signal(number)

    def press_ctrl_c(self) -> None:
        """SIGINT to the whole process group, as a terminal sends it."""
        os.killpg(self.pid, signal.SIGINT)

    def wait(self, within_s: float) -> int:
        """Wait for the end of the server process."""
        try:
            return self._started.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the server still runs after {within_s:g} s\n{self.log_tail()}"
            ) from None

    @property
    def running(self) -> bool:
        """Whether the server process runs."""
        return self._popen is not None and self._popen.poll() is None

    def sweep(self) -> None:
        """Kill whatever is left of it, for the sake of the tests that follow."""
        self.api.http.close()
        self._held_port.release()
        for process in self._processes():
            process.kill()
        if self._popen is not None:
            self._popen.wait()

    def __enter__(self) -> RunningServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                if self.running:
                    self.stop()
                self.assert_nothing_left()
        finally:
            self.sweep()

    # ---- what can be seen ---------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return self._started.pid

    def rss(self) -> int:
        """Resident memory of the server process alone, in bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def descriptors(self) -> int:
        """How many files and sockets the server process has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def maps(self) -> str:
        """The files and libraries mapped into the server process."""
        return processes.maps(self.pid)

    def tree(self) -> set[int]:
        """Process ids of everything below the server."""
        return {process.pid for process in processes.tree(self.pid)}

    def idle_tree(self) -> set[int]:
        """Process ids below the server once it has started what it keeps for good; a moment after
        it is ready, multiprocessing's resource tracker comes as the last of them."""
        eventually(
            lambda: "resource_tracker" in self.commands(),
            within_s=START_LIMIT_S,
            what=self.commands,
        )
        return self.tree()

    def commands(self) -> str:
        """The command lines of everything below the server."""
        return "\n".join(processes.describe(processes.tree(self.pid)))

    def workers(self) -> list[psutil.Process]:
        """Its worker processes, those that still start included."""
        return processes.workers(self.pid)

    def handed_over(self, task_id: str) -> HandedOver | None:
        """Which worker got a task, None if none has."""
        for task, worker, pid in _HANDED_OVER.findall(self.log()):
            if task == task_id:
                return HandedOver(task, int(worker), int(pid))
        return None

    def all_handed_over(self) -> list[HandedOver]:
        """Every hand-over so far, in order."""
        found = _HANDED_OVER.findall(self.log())
        return [HandedOver(task, int(worker), int(pid)) for task, worker, pid in found]

    def worker_of(self, task_id: str) -> int:
        """Wait until a task has begun; returns the pid of its worker. It may have ended since."""
        eventually(
            lambda: self.api.poll(task_id)["task_status"] != "pending",
            within_s=START_LIMIT_S,
            what=f"task {task_id} starts",
        )
        handed = self.handed_over(task_id)
        assert handed is not None, self.log_tail()
        return handed.pid

    def standby(self) -> int:
        """Wait until its one worker is a standby process; returns the pid."""

        def ready() -> int | None:
            pids = [process.pid for process in self.workers()]
            if len(pids) == 1 and self.states().get(pids[0]) == "standby":
                return pids[0]
            return None

        pid = eventually(ready, within_s=START_LIMIT_S, what="one standby process")
        assert pid is not None
        return pid

    def states(self) -> dict[int, str]:
        """The state that each worker moved to last, by pid."""
        return {int(pid): state for state, pid in _MOVED.findall(self.log())}

    def wait_for_no_workers(self) -> None:
        """Wait until the last worker is gone."""
        eventually(
            lambda: not self.workers(), within_s=ORPHAN_LIMIT_S, what="all workers have ended"
        )

    def log(self) -> str:
        """Everything the server and its workers have logged."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def log_tail(self, lines: int = 60) -> str:
        """The end of the log, for messages."""
        return "\n".join(["--- end of the server's log:", *self.log().splitlines()[-lines:]])

    def scratch_files(self) -> list[str]:
        """Files in scratch that belong to tasks, relative to where their folders are."""
        own = list(self.scratch.glob("docling-serve-*")) or [self.scratch]  # or a folder it keeps
        assert len(own) == 1, own
        tasks = own[0] / "tasks"
        # os.walk passes over a folder that is removed meanwhile.
        files = (Path(folder, name) for folder, _, names in os.walk(tasks) for name in names)
        return sorted(str(path.relative_to(tasks)) for path in files)

    # ---- what must not be seen ------------------------------------------------------------------

    def assert_nothing_left(self) -> None:
        """After the server's end: no process, no scratch file, no listener."""
        eventually(
            lambda: not self._processes(),
            within_s=ORPHAN_LIMIT_S,
            what=lambda: f"all its processes end: {processes.describe(self._processes())}",
        )
        left = [str(path) for path in self.temp.rglob("*")]
        assert not left, left
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", self.port)) != 0, "somebody still listens"

    # ---- how it is started ----------------------------------------------------------------------

    def _environment(self, env: Mapping[str, str], config: Path | None) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
        ours = {
            processes.MARK: self.mark,
            "TMPDIR": str(self.temp),
            # An empty cache, and no way to fill it: a model load fails at once.
            "HF_HOME": str(self.folder / "no-models"),
            "HF_HUB_OFFLINE": "1",
            # torch makes this folder at its import; it is a cache, not something left behind.
            "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "torch-cache"),
            "PYTHONUNBUFFERED": "1",
            "DOCLING_SERVE_LOG_LEVEL": "DEBUG",  # what became of each worker is read there
        }
        if config is not None:
            ours["DOCLING_SERVE_CONFIG_FILE"] = str(config)
        return {**inherited, **ours, **env}

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        assert self._popen is not None, "the server was not started"
        return self._popen

    def _processes(self) -> list[psutil.Process]:
        found = [*processes.marked(self.mark), *processes.working_in(self.folder)]
        return list({process.pid: process for process in found}.values())

    def _answers(self) -> bool:
        code = self._started.poll()
        assert code is None, f"the server ended with code {code} at its start\n{self.log_tail()}"
        try:
            return (
                httpx.get(self.url + self._probe, trust_env=False, verify=self.tls).status_code
                == 200
            )
        except httpx.TransportError:
            return False


def new_folder(parent: Path) -> Path:
    """A short path for a server's files: socket names in it may have 107 characters at most."""
    folder = parent / uuid.uuid4().hex[:8]
    folder.mkdir()
    return folder
