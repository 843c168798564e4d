"""The main function of a worker process.

The order matters: the process is contained before anything heavy is imported, reports ready once
its imports are done, and then runs one job after another until it gets Stop or its server is gone.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import os
import socket
import sys
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docling_serve.errors import Failure, TaskFailed
from docling_serve.internals.onnx_arena import give_back_arena, share_arena
from docling_serve.jobs.spec import JobProgress, JobResult, JobSpec, TaskFolder
from docling_serve.observability.logging import configure_logging, process_fields
from docling_serve.process.deferred_imports import is_loaded
from docling_serve.sandbox.plan import NOT_ASKED_FOR, OUT
from docling_serve.sandbox.seccomp import deny_network
from docling_serve.subprocess_worker.child.allocator import (
    KEPT,
    give_back_freed_memory,
    keep_freed_memory,
)
from docling_serve.subprocess_worker.child.code_pages import let_go_of_code
from docling_serve.subprocess_worker.child.containment import (
    contain,
    forget_initial_environment,
    limit_threads,
    scrub_environment,
    use_own_caches,
    use_temporary_folder,
)
from docling_serve.subprocess_worker.child.gpu_use import (
    has_opened_gpu,
    show_one_gpu,
    take_device_number,
)
from docling_serve.subprocess_worker.child.importing import import_for_conversions
from docling_serve.subprocess_worker.protocol.channel import WorkerChannel
from docling_serve.subprocess_worker.protocol.config import WorkerConfig
from docling_serve.subprocess_worker.protocol.log_pipe import redirect_output
from docling_serve.subprocess_worker.protocol.messages import (
    MAX_FRAME_BYTES,
    CallbackDue,
    ConverterCounts,
    Done,
    Failed,
    Inspect,
    Inspected,
    Progressed,
    Ready,
    Rest,
    Rested,
    Run,
    Started,
    Stop,
)

if TYPE_CHECKING:
    from docling_serve.conversion.conversion import Conversion

_log = logging.getLogger(__name__)
_FLUSH_LIMIT_S = 2.0
_AT_REST_AFTER_S = 1.0


@dataclass(frozen=True)
class ChildArguments:
    """Everything a worker gets when it starts; work arrives later, on the channel."""

    channel: socket.socket
    output: socket.socket
    parent_pid: int
    config: WorkerConfig
    folder: Path


def main(arguments: ChildArguments) -> None:
    """Run jobs until Stop. Does not return: it flushes what must be flushed, then ends the process
    without the interpreter's slow teardown (seconds, once torch is loaded)."""
    redirect_output(arguments.output)
    faulthandler.enable()
    kept = keep_freed_memory(os.environ) if arguments.config.keep_freed_memory else NOT_ASKED_FOR
    contained = contain(
        parent_pid=arguments.parent_pid,
        nice=arguments.config.nice,
        sandbox=arguments.config.sandbox,
        folder=arguments.folder,
    )
    contained["freed_memory_kept"] = kept
    use_temporary_folder(arguments.folder / OUT / "temp")
    if contained["files_confined"] == "on":
        use_own_caches(arguments.folder / OUT)
    scrub_environment(os.environ, arguments.config.pass_env)
    contained["initial_environment_blank"] = forget_initial_environment(os.environ)
    gpu_number = take_device_number(os.environ)
    limit_threads(os.environ, arguments.config.threads)
    contained["threads_limited"] = "on" if arguments.config.threads > 0 else NOT_ASKED_FOR
    configure_logging(arguments.config.log_level, arguments.config.log_format)
    # docling averages the page scores of documents that have none.
    warnings.filterwarnings("ignore", "Mean of empty slice|All-NaN slice", RuntimeWarning)
    channel = WorkerChannel(arguments.channel)
    code = 1
    try:
        started = time.monotonic()
        import_for_conversions(
            allow_external_plugins=bool(
                arguments.config.converter_config.get("allow_external_plugins")
            ),
            preload_torch=arguments.config.preload_torch,
        )
        share_arena()
        may_deny = arguments.config.sandbox.denies_network and contained["calls_denied"] == "on"
        worker = _Worker(
            channel,
            arguments.config,
            gpu_number,
            may_deny_network=may_deny,
            keeps_memory=kept == KEPT,
        )
        channel.send(
            Ready(
                pid=os.getpid(),
                import_s=time.monotonic() - started,
                uses_gpu=worker.uses_gpu,
                contained=contained,
            )
        )
        worker.serve()
        code = 0
    except Exception:  # noqa: BLE001 - the last line before the end, so that the log has it
        _log.exception("worker %d exits: it cannot continue", os.getpid())
    finally:
        _leave(code)


class _Worker:
    def __init__(
        self,
        channel: WorkerChannel,
        config: WorkerConfig,
        gpu_number: int | None,
        *,
        may_deny_network: bool,
        keeps_memory: bool,
    ) -> None:
        from docling_serve.conversion.conversion import Conversion  # noqa: PLC0415 - heavy
        from docling_serve.conversion.imports import (  # noqa: PLC0415
            can_use_gpu,
            limit_torch_threads,
        )

        if config.threads > 0:
            limit_torch_threads(config.threads)
        self.uses_gpu = can_use_gpu()
        self._gpu_number = gpu_number
        self._channel = channel
        self._converter_config = config.converter_config
        self._conversion: Conversion = Conversion(config.converter_config)
        self._before = self._conversion.stats
        self._may_deny_network = may_deny_network
        self._keeps_memory = keeps_memory

    def serve(self) -> None:
        """Answer messages until Stop or end-of-file."""
        if not self._channel.has_message(within_s=0):
            self._rehearse()
        worked = False
        while True:
            if worked and not self._channel.has_message(within_s=_AT_REST_AFTER_S):
                self._give_back_memory()
            message = self._channel.receive()
            if message is None or isinstance(message, Stop):
                return
            worked = isinstance(message, Run)
            if isinstance(message, Run):
                self._run(message)
            elif isinstance(message, Inspect):
                self._inspect(message)
            elif isinstance(message, Rest):
                self._rest()

    def _rehearse(self) -> None:
        """Warm up, so that the first job is like later ones; some 0.1 s, while no job waits."""
        try:
            self._conversion.rehearse()
        except Exception as exc:  # noqa: BLE001 - a job will tell what is wrong
            _log.debug("the warm-up failed: %s", exc)

    def _rest(self) -> None:
        self._conversion.clear()
        self._give_back_memory()
        self._channel.send(Rested())

    def _inspect(self, inspect: Inspect) -> None:
        uses_gpu = True
        try:
            spec = TaskFolder(Path(inspect.folder)).read_job()
            self._configure(spec.converter_config)
            uses_gpu = self._conversion.may_use_gpu(spec)
        except Exception:  # noqa: BLE001 - the job itself will fail, and say why
            _log.debug(
                "job %d: whether it uses the GPU is not known before it runs",
                inspect.job,
                exc_info=True,
            )
        self._channel.send(Inspected(job=inspect.job, uses_gpu=uses_gpu))

    def _run(self, run: Run) -> None:
        show_one_gpu(os.environ, run.device, self._gpu_number)
        self._gpu_number = None
        self._channel.send(Started(job=run.job))
        if self._may_deny_network and not run.network:
            self._may_deny_network = False
            deny_network()  # a failure ends the worker: the pool counts on it
        folder = TaskFolder(Path(run.folder), Path(run.output))
        try:
            use_temporary_folder(folder.temp)
            spec = folder.read_job()
            process_fields["task"] = spec.task_id
            self._configure(spec.converter_config)
            self._before = self._conversion.stats
            result = self._convert(run.job, spec, folder)
        except TaskFailed as exc:
            self._fail(run.job, exc.failure)
        else:
            self._channel.send(
                Done(
                    job=run.job,
                    result=result,
                    holds_models=self._conversion.holds_models,
                    lean=_is_lean(),
                    converters=self._converters(),
                )
            )
        finally:
            process_fields.clear()

    def _convert(self, job: int, spec: JobSpec, folder: TaskFolder) -> JobResult:
        try:
            return self._conversion.run(
                spec,
                folder,
                on_progress=lambda progress: self._report(job, progress),
                on_callback=lambda payload: self._relay(job, payload),
            )
        finally:
            if not self._keeps_memory:
                give_back_arena()

    def _give_back_memory(self) -> None:
        """Return unused memory; some 0.1 s after a scan."""
        gc.collect()
        give_back_arena()
        give_back_freed_memory()
        let_go_of_code()

    def _configure(self, converter_config: dict[str, Any]) -> None:
        """Convert with ``converter_config``, if the job has one. The server's jobs have the one
        that the worker was started with; with another one the models of the previous job are
        dropped."""
        if converter_config and converter_config != self._converter_config:
            self._conversion = type(self._conversion)(converter_config)
            self._converter_config = converter_config

    def _converters(self) -> ConverterCounts:
        """How this job used the converters."""
        now, before = self._conversion.stats, self._before
        return ConverterCounts(
            hits=now.hits - before.hits,
            misses=now.misses - before.misses,
            model_sets=now.model_sets,
        )

    def _report(self, job: int, progress: JobProgress) -> None:
        holds = self._conversion.holds_models
        self._channel.send(
            Progressed(job=job, progress=progress, holds_models=holds, lean=_is_lean())
        )

    def _relay(self, job: int, payload: dict[str, Any]) -> None:
        message = CallbackDue(job=job, payload=payload)
        if len(message.model_dump_json().encode()) > MAX_FRAME_BYTES:
            message = CallbackDue(job=job, payload={**payload, "docs": []})
        self._channel.send(message)

    def _fail(self, job: int, failure: Failure) -> None:
        self._channel.send(
            Failed(
                job=job,
                category=failure.category,
                message=failure.message[:4000],
                retryable=failure.retryable,
                phase=failure.phase,
                details={key: value[:4000] for key, value in failure.details.items()},
                holds_models=self._conversion.holds_models,
                lean=_is_lean(),
                converters=self._converters(),
            )
        )


def _is_lean() -> bool:
    """Whether this process could free all memory that its jobs took: only its exit frees torch, or
    what a driver holds for it."""
    return not is_loaded("torch") and not has_opened_gpu()


def _leave(code: int) -> None:
    """Flush within a time limit, then exit at once."""
    threading.Timer(_FLUSH_LIMIT_S, os._exit, (code,)).start()
    with contextlib.suppress(Exception):  # nothing here may keep a worker alive
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
