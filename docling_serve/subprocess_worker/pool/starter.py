"""Starts worker processes, all from one thread that lives as long as the server.

Under spawn the kernel's parent-death signal follows the *thread* that started a process, and the
first start under forkserver blocks for the whole preload; one dedicated thread serves both.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

from docling_serve.errors import ShuttingDown
from docling_serve.internals import fork_server
from docling_serve.internals.clean_starts import starting_with
from docling_serve.process.guardian import Guardian
from docling_serve.subprocess_worker.child import template
from docling_serve.subprocess_worker.child.containment import scrub_environment
from docling_serve.subprocess_worker.child.main import ChildArguments
from docling_serve.subprocess_worker.child.main import main as child_main
from docling_serve.subprocess_worker.pool.job_folders import JobFolders
from docling_serve.subprocess_worker.pool.stopping import signal_group
from docling_serve.subprocess_worker.protocol.channel import socket_pair
from docling_serve.subprocess_worker.protocol.config import StartMethod, WorkerPoolConfig

_MAX_BACKOFF_S = 30.0

_log = logging.getLogger(__name__)

ChildMain = Callable[[ChildArguments], None]

_T = TypeVar("_T")

_REAP_LIMIT_S = 2.0


@dataclass(frozen=True)
class StartedProcess:
    """A process being started, the server's end of its channel, and of its output."""

    process: BaseProcess
    channel: socket.socket
    output: socket.socket
    folder: Path


class Starter:
    """Creates worker processes under the configured start method.

    ``main`` is what a worker runs; tests pass one that misbehaves on purpose. ``guardian`` ends the
    workers when this process is gone; without one the starter makes its own.
    """

    def __init__(
        self,
        config: WorkerPoolConfig,
        main: ChildMain = child_main,
        guardian: Guardian | None = None,
    ) -> None:
        self.guardian = guardian or Guardian()
        self._own_guardian = guardian is None
        self.folders = JobFolders(self.guardian)
        self._config = config
        self._main = main
        self.start_method: StartMethod = config.start_method
        #: Why the fork template was refused; None if it was not.
        self.template_unfit: str | None = None
        self._prepared = False
        self._fork_server: fork_server.ForkServer | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="worker-starter")
        self._pids: set[int] = set()
        self._killed = False
        self._told: dict[str, str] = {}

    @property
    def template_pid(self) -> int | None:
        """The process ID of the fork template; None if workers are spawned."""
        forks = self.start_method == "forkserver" and self._fork_server is not None
        return fork_server.pid() if forks else None

    async def prepare(self) -> None:
        """Start what multiprocessing keeps permanently: its resource tracker and, for forkserver,
        the fork template (seconds of imports). An unfit template is refused with its reason, and
        spawn is used."""
        await self._in_thread(self._prepare)

    async def start(self, number: int) -> StartedProcess:
        """A started process and the server's ends of its sockets.

        Raises:
            OSError: the process or the sockets could not be made.
            ShuttingDown: all workers were killed meanwhile.
        """
        return await self._in_thread(lambda: self._start(number))

    async def reap(self, process: BaseProcess) -> int | None:
        """The exit code of a process that has exited, None if it is unknown."""

        def join() -> int | None:
            if process.pid is not None:
                self._pids.discard(process.pid)  # first: once reaped, its PID may be reused
            process.join(_REAP_LIMIT_S)
            code = process.exitcode
            if process.pid is not None:
                self.guardian.forget(process.pid)
            with contextlib.suppress(ValueError):  # multiprocessing thinks it still runs
                process.close()
            return code

        return await self._in_thread(join)

    def tell_once(self, measures: dict[str, str]) -> None:
        """Log which measures contain workers, and which do not, if that has changed."""
        if measures == self._told:
            return
        self._told = measures
        held = ", ".join(name for name, state in measures.items() if state == "on")
        _log.info("restrictions of workers in effect: %s", held or "nothing")
        for name, state in measures.items():
            if state.startswith(("off", "left open")):
                _log.warning("workers run without %s: %s", name, state)

    async def remove(self, folder: Path) -> None:
        """Remove the folder of a worker that has exited."""
        await self._in_thread(lambda: shutil.rmtree(folder, ignore_errors=True))

    def kill_all(self) -> None:
        """SIGKILL every worker and its children, without waiting, from any thread. None starts
        after that, so the interpreter, which waits for processes at exit, finds none alive."""
        self._killed = True
        for pid in tuple(self._pids):
            signal_group(pid, signal.SIGKILL)

    def close(self) -> None:
        """Let the thread finish; workers started from it must have exited before, and the folders
        be closed."""
        self._thread.shutdown(wait=False)
        if self._own_guardian:
            self.guardian.dismiss()

    def _prepare(self) -> None:
        with starting_with(self._environment):
            self._start_what_stays()

    def _start_what_stays(self) -> None:
        resource_tracker.ensure_running()
        if self.start_method != "forkserver" or self._prepared:
            return
        worker = self._config.worker
        plugins = bool(worker.converter_config.get("allow_external_plugins"))
        multiprocessing.get_context("forkserver").set_forkserver_preload(
            template.preload_modules(plugins, torch=worker.preload_torch)
        )
        self._entrust_fork_server()
        self.template_unfit = self._examine_template()
        self._prepared = True
        if self.template_unfit is not None:
            _log.warning(
                "the fork template is not used, workers are spawned: %s", self.template_unfit
            )
            self.start_method = "spawn"

    def _entrust_fork_server(self) -> None:
        """All pools of this process share one, and any of them may have ended it."""
        current = fork_server.running()
        if current != self._fork_server:
            if self._fork_server is not None:
                self._fork_server.take_back_from(self.guardian)
            self._fork_server = current
            current.entrust_to(self.guardian)

    def _examine_template(self) -> str | None:
        ours, theirs = socket.socketpair()
        ours.settimeout(self._config.start_timeout_s)
        process: BaseProcess = self._context.Process(  # type: ignore[attr-defined]
            target=template.report, args=(theirs,), name="docling-template-check"
        )
        try:
            process.start()
            theirs.close()
            return template.TemplateReport.from_wire(ours.recv(1024)).unfit_because
        except (OSError, EOFError, ValueError, TypeError) as exc:
            return f"it did not start ({type(exc).__name__}: {exc})"
        finally:
            ours.close()
            if process.pid is not None:
                process.join(_REAP_LIMIT_S)

    @property
    def _context(self) -> BaseContext:
        return multiprocessing.get_context(self.start_method)

    def _start(self, number: int) -> StartedProcess:
        self._require_alive()
        if self.start_method == "forkserver":
            with starting_with(self._environment):
                self._entrust_fork_server()
        ours, theirs = socket_pair()
        output, printed = socket_pair()
        try:
            folder = self.folders.for_worker(number)
            arguments = ChildArguments(theirs, printed, os.getpid(), self._config.worker, folder)
            process: BaseProcess = self._context.Process(  # type: ignore[attr-defined]
                target=self._main, args=(arguments,), name=f"docling-worker-{number}"
            )
            with starting_with(self._environment):
                process.start()
            if process.pid is not None:
                self._pids.add(process.pid)
                self.guardian.watch(process.pid)
            self._require_alive()
        except BaseException:
            ours.close()
            output.close()
            self.folders.drop_worker(number)
            raise
        finally:
            # While our copies are open, the worker's exit does not read as end-of-file.
            theirs.close()
            printed.close()
        return StartedProcess(process, ours, output, folder)

    def _require_alive(self) -> None:
        """Raises ``ShuttingDown`` once all workers are to be killed, including one just started."""
        if self._killed:
            self.kill_all()
            raise ShuttingDown("the server is shutting down")

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _environment(self) -> dict[str, str]:
        """What a worker may know of our environment. It scrubs its environment itself, too, but
        what it was started with would stay in its memory."""
        environ = dict(os.environ)
        scrub_environment(environ, self._config.worker.pass_env)
        return environ


class StartBackoff:
    """Counts consecutive failed starts, and says when the next one may be tried."""

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s
        self.failures = 0
        self.no_start_before = 0.0

    def failed(self) -> None:
        """A start failed: wait twice as long as the last time."""
        delay = min(_MAX_BACKOFF_S, self._first_s * 2.0**self.failures)
        self.failures += 1
        self.no_start_before = time.monotonic() + delay

    def succeeded(self) -> None:
        """A worker became ready."""
        self.failures = 0
