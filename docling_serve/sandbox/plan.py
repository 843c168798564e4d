"""The sandbox of a worker: what is requested, and what the kernel provides."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from docling_serve.sandbox import grants, landlock, seccomp
from docling_serve.sandbox.kernel import drop_capabilities, hide_memory

SandboxMode = Literal["off", "auto", "require"]

#: Reported for a measure that the settings leave off.
NOT_ASKED_FOR = "not asked for"
#: Reported for the network in workers that may download models.
LEFT_OPEN = "left open for downloads of models: set artifacts_path or HF_HUB_OFFLINE=1"
#: Reported for the network where the operator allows it.
LEFT_TO_OPERATOR = "left to subprocess_sandbox_allow"
_ON = "on"
#: The folder, inside a worker's own, that it may write to.
OUT = "out"


class SandboxUnavailable(Exception):
    """A required layer is not available on this kernel; the text says which one and why."""


@dataclass(frozen=True)
class SandboxPlan:
    """What a worker keeps in addition to its own folder.

    ``auto`` applies what the kernel supports, ``require`` ends a worker that lacks a layer.
    ``read`` and ``write`` are files and folders. ``network_stays`` says why jobs that need no
    network keep it anyway; empty if they do not.
    """

    mode: SandboxMode = "off"
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network_stays: str = ""

    @property
    def denies_network(self) -> bool:
        """Whether jobs that need no network are denied access to it."""
        return self.mode != "off" and not self.network_stays


def confine(plan: SandboxPlan, folder: Path | None) -> dict[str, str]:
    """Apply every layer to this process, permanently, before it starts a thread. It may read all of
    ``folder``, and write to ``out`` in it; without a folder it keeps access to all files. The
    network is denied later, with the first job that does not need it.

    Returns:
        A dict of each layer's name to ``"on"``, ``NOT_ASKED_FOR``, or why it is off.

    Raises:
        SandboxUnavailable: with ``require``, a layer is not on.
    """
    layers: dict[str, Callable[[], None]] = {
        "capabilities_dropped": drop_capabilities,  # reads /proc
        "files_confined": lambda: _confine_files(plan, folder),
        "signals_confined": _require_scopes,
        "calls_denied": seccomp.deny_calls,
        "memory_hidden": hide_memory,
    }
    if plan.mode == "off":
        return dict.fromkeys([*layers, "network_denied"], NOT_ASKED_FOR)
    states = {name: _tried(layer) for name, layer in layers.items()}
    if states["files_confined"] != _ON:  # the same rules confine signals
        states["signals_confined"] = states["files_confined"]
    states["network_denied"] = plan.network_stays or states["calls_denied"]
    missing = [
        f"{name} is {state}"
        for name, state in states.items()
        if state not in (_ON, LEFT_TO_OPERATOR)
    ]
    if plan.mode == "require" and missing:
        raise SandboxUnavailable(f"subprocess_sandbox=require: {'; '.join(missing)}")
    return states


def _confine_files(plan: SandboxPlan, folder: Path | None) -> None:
    threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - a Path each is slow
    if threads != 1:  # the kernel would confine only this one
        raise OSError(0, f"the process has {threads} threads")
    if folder is None:
        landlock.confine(None)
        return
    read, write = [*plan.read, str(folder)], [*plan.write, str(folder / OUT)]
    landlock.confine(landlock.Reach(read, write, grants.devices()))


def _require_scopes() -> None:
    found = landlock.version()
    if found < landlock.SCOPES_VERSION:
        raise OSError(
            0, f"Landlock version {found} is available, {landlock.SCOPES_VERSION} is needed"
        )


def _tried(layer: Callable[[], None]) -> str:
    try:
        layer()
    except OSError as exc:
        return f"off: {exc.strerror or exc}"
    return _ON
