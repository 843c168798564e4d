"""The fork template: one process with everything imported, from which workers are forked.

multiprocessing's fork server imports a module of ``preload`` before its first fork. Every worker
inherits what a template holds, so it must be fit for forking: one thread, no CUDA. A first child
inspects its parent and reports (:func:`examine`); an unfit template is not used.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from docling_serve.internals.torch_fork import called_driver_before_fork
from docling_serve.sandbox.kernel import hide_memory
from docling_serve.subprocess_worker.child.gpu_use import has_opened_gpu
from docling_serve.subprocess_worker.child.importing import import_for_conversions

_QUIET_THREADS = {
    # A thread pool in the template would be missing in every forked child.
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
_EXPECTED = "docling_serve.conversion.imports"


def preload_modules(allow_external_plugins: bool, *, torch: bool) -> list[str]:
    """The modules that make a template when imported. multiprocessing passes on only names."""
    names = ["with_plugins" if allow_external_plugins else "plain"]
    if torch:
        names.append("with_torch")
    return [f"docling_serve.subprocess_worker.child.preload.{name}" for name in names]


def preload(*, allow_external_plugins: bool) -> None:
    """Import what conversions need."""
    hide_memory()
    os.environ.update(_QUIET_THREADS)
    # An import configures logging if it is not configured yet, which would give the server's log
    # lines in another format. Each worker configures its own.
    logging.getLogger().addHandler(logging.NullHandler())
    import_for_conversions(allow_external_plugins=allow_external_plugins)


@dataclass(frozen=True)
class TemplateReport:
    """What a forked child saw of the template it was forked from.

    ``cuda``: a GPU is open in the template, or torch has called the driver there.
    """

    loaded: bool
    threads: int
    cuda: bool

    @classmethod
    def from_wire(cls, text: bytes) -> TemplateReport:
        """Read what :func:`report` sent."""
        return cls(**json.loads(text))

    @property
    def unfit_because(self) -> str | None:
        """Why workers must not be forked from it; None if they may be."""
        if not self.loaded:
            return "its imports failed"
        if self.threads != 1:
            return f"it has {self.threads} threads, and only one survives a fork"
        if self.cuda:
            return "CUDA was initialised in it"
        return None


def examine() -> TemplateReport:
    """Inspect the parent of this process, through /proc and what was inherited from it, including
    open files: the parent's own cannot be seen, since its memory is hidden.

    A mapped ``libcuda.so`` proves nothing: cuBLAS opens it when torch is imported, wherever a
    driver is installed. A driver that was initialised keeps a device open.

    Raises:
        OSError: the parent is gone, or the kernel does not show it.
    """
    parent = Path(f"/proc/{os.getppid()}")
    threads = sum(1 for _ in (parent / "task").iterdir())
    cuda = has_opened_gpu() or called_driver_before_fork()
    return TemplateReport(loaded=_EXPECTED in sys.modules, threads=threads, cuda=cuda)


def report(theirs: socket.socket) -> None:
    """Main function of the first child: examine the template, report, exit."""
    with theirs:
        theirs.sendall(json.dumps(asdict(examine())).encode())
    os._exit(0)
