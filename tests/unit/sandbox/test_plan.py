"""The layers, applied to a process that is thrown away. What the kernel does not give is skipped
with its reason; tests/faults/test_hostile_worker.py has the whole in a real worker."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from docling_serve.sandbox import landlock, seccomp
from docling_serve.sandbox.plan import LEFT_TO_OPERATOR, NOT_ASKED_FOR, SandboxPlan, confine
from tests.helpers.process_ends import ROOT, python

_LAYERS = {
    "files_confined",
    "signals_confined",
    "calls_denied",
    "capabilities_dropped",
    "memory_hidden",
    "network_denied",
}

_CONFINED = """
import errno, json, os, socket, subprocess, sys, threading
from pathlib import Path
from docling_serve.sandbox.kernel import gain_no_privileges
from docling_serve.sandbox.plan import SandboxPlan, confine
from docling_serve.sandbox.seccomp import deny_network
plan, folder = SandboxPlan(**json.loads(sys.argv[1])), Path(sys.argv[2])
gain_no_privileges()
seen = {"states": confine(plan, folder)}

def attempt(name, call):
    try:
        call()
    except OSError as exc:
        seen[name] = errno.errorcode.get(exc.errno, str(exc))
    else:
        seen[name] = "done"

attempt("read what it was given", (folder / "given").read_text)
attempt("write there", lambda: (folder / "given").write_text(""))
attempt("write to its own", lambda: (folder / "out" / "note").write_text("mine"))
attempt("read beside it", (folder.parent / "secret").read_text)
attempt("link what is beside it", lambda: os.link(folder.parent / "secret", folder / "out" / "x"))
attempt("start a thread", lambda: threading.Thread(target=lambda: None).start())
attempt("start a program", lambda: subprocess.run(["true"], start_new_session=True, check=True))
attempt("signal its parent", lambda: os.kill(os.getppid(), 0))
attempt("signal itself", lambda: os.kill(0, 0))
attempt("a socket", lambda: socket.socket().close())
attempt("a socket of the machine's host", lambda: socket.socket(40, socket.SOCK_STREAM))
deny_network()
attempt("a socket without network", lambda: socket.socket().close())
attempt("a pair of sockets", lambda: [end.close() for end in socket.socketpair()])
in_thread = threading.Thread(target=attempt, args=("from a thread", lambda: socket.socket()))
in_thread.start()
in_thread.join()
print(json.dumps(seen))
"""


def _confined(tmp_path: Path, **plan: object) -> dict[str, object]:
    folder = tmp_path / "worker"
    (folder / "out").mkdir(parents=True)
    (folder / "given").write_text("a document")
    (tmp_path / "secret").write_text("another document")
    ran = subprocess.run(
        python("-c", _CONFINED, json.dumps(plan), str(folder)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    seen: dict[str, object] = json.loads(ran.stdout)
    return seen


def _require(layer: str, states: object) -> None:
    assert isinstance(states, dict)
    if states[layer] != "on":
        pytest.skip(f"this kernel does not give {layer}: {states[layer]}")


def test_a_confined_process_keeps_its_folder_and_what_it_started(tmp_path: Path) -> None:
    from docling_serve.sandbox.grants import readable

    seen = _confined(tmp_path, mode="auto", read=readable({}))

    states = seen.pop("states")
    _require("files_confined", states)
    _require("signals_confined", states)
    _require("calls_denied", states)
    assert states == dict.fromkeys(_LAYERS, "on")
    assert seen == {
        "read what it was given": "done",
        "write there": "EACCES",
        "write to its own": "done",
        "read beside it": "EACCES",
        "link what is beside it": "EXDEV",
        "start a thread": "done",
        "start a program": "done",
        "signal its parent": "EPERM",
        "signal itself": "done",
        "a socket": "done",
        "a socket of the machine's host": "EPERM",
        "a socket without network": "EPERM",
        "a pair of sockets": "done",
        "from a thread": "EPERM",
    }


def test_nothing_is_applied_unless_it_is_asked_for(tmp_path: Path) -> None:
    seen = _confined(tmp_path, mode="off")

    assert seen["states"] == dict.fromkeys(_LAYERS, NOT_ASKED_FOR)
    assert seen["read beside it"] == "done"
    assert seen["signal its parent"] == "done"


def test_a_process_that_misses_a_required_layer_does_not_go_on(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"require: network_denied is left open"):
        _confined(tmp_path, mode="require", network_stays="left open")


def test_what_the_operator_allows_is_not_missed(tmp_path: Path) -> None:
    seen = _confined(tmp_path, mode="auto", network_stays=LEFT_TO_OPERATOR)
    states = seen["states"]
    assert isinstance(states, dict)

    assert states["network_denied"] == LEFT_TO_OPERATOR


def test_a_kernel_without_landlock_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(landlock, "syscall", refuse)
    monkeypatch.setattr(seccomp, "syscall", refuse)
    monkeypatch.setattr("docling_serve.sandbox.plan.drop_capabilities", lambda: None)
    monkeypatch.setattr("docling_serve.sandbox.plan.hide_memory", lambda: None)
    monkeypatch.setattr("docling_serve.sandbox.plan.os.listdir", lambda _: ["1"])

    states = confine(SandboxPlan(mode="auto"), None)

    assert states["files_confined"] == "off: the kernel has no Landlock"
    assert states["calls_denied"] == states["network_denied"] == "off: Function not implemented"
