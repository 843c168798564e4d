"""What a document would try that has taken over its worker: one line for each attempt.

The attempts know what an attacker could only guess: process ids, paths and ports, in ``facts``.
None of them does harm where it succeeds.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
#: Numbers of system calls, x86-64 and aarch64.
_CALLS = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "pidfd_getfd": (438, 438),
    "unshare": (272, 97),
    "mount": (165, 40),
    "bpf": (321, 280),
    "keyctl": (250, 219),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "prlimit64": (302, 261),
    "setpriority": (141, 140),
}
_PTRACE_SEIZE, _PTRACE_DETACH = 0x4206, 17
#: What the kernel says of a call that it permits and whose arguments are wrong, on purpose.
_LOOKED_AT = (errno.EINVAL, errno.EFAULT, errno.ENODEV)
_NEWUSER, _NEWNS = 0x10000000, 0x00020000


def report(facts: dict[str, Any]) -> None:
    """Try everything, and print ``ATTEMPT name: outcome`` for each."""
    for name, attempt in _attempts(facts).items():
        try:
            outcome = attempt() or "succeeded"
        except OSError as exc:
            looked = exc.errno in _LOOKED_AT
            said = os.strerror(exc.errno or 0)
            outcome = "succeeded (the kernel took the call)" if looked else f"refused ({said})"
        print(f"ATTEMPT {name}: {outcome}", file=sys.stderr, flush=True)


def _attempts(facts: dict[str, Any]) -> dict[str, Callable[[], str | None]]:
    server, sibling = facts["server"], facts["sibling"]
    found: dict[str, Callable[[], str | None]] = {
        "read the API key from the server's environment": lambda: _read_environment(server),
        "read the server's memory": lambda: _read_memory(server),
        "see what the server has open": lambda: _follow(f"/proc/{server}/fd/0"),
        "read another task's document": lambda: _read(facts["document"]),
        "list the tasks": lambda: _list(facts["tasks"]),
        "read the journal": lambda: _read(facts["journal"]),
        "read the key of the server's configuration": lambda: _read(facts["secret"]),
        "change the mode of the journal": lambda: _change_mode(facts["journal"]),
        "write into the code of the server": lambda: _append(facts["code"]),
        "write outside of its folder": lambda: _append(facts["elsewhere"]),
        "read the sibling's memory": lambda: _read_memory(sibling),
        "attach to the sibling": lambda: _attach(sibling),
        "read the sibling's memory by a system call": lambda: _read_by_call(sibling),
        "take a descriptor of the server": lambda: _take_descriptor(server),
        "lower the server's limits": lambda: _call("prlimit64", server, 7, None, None),
        "lower the server's priority": lambda: _call("setpriority", 0, server, 19),
        "connect to the server": lambda: _connect(facts["port"]),
        "connect to another machine's port": lambda: _connect(facts["listener"]),
        "send a datagram": lambda: _datagram(facts["listener"]),
        "listen on a port": _listen,
        "connect to an abstract socket": lambda: _connect_abstract(facts["abstract"]),
        "leave its process group": _leave_group,
        "enter a user namespace": lambda: _call("unshare", _NEWUSER),
        "enter a mount namespace": lambda: _call("unshare", _NEWNS),
        "mount a file system": lambda: _call("mount", b"none", b"/", b"no such kind", 0, None),
        "load a BPF program": lambda: _call("bpf", 0, None, 0),
        "use the kernel's keys": lambda: _call("keyctl", 0, -3, 1),
        "handle page faults": lambda: _call("userfaultfd", 1),
        "set up io_uring": lambda: _call("io_uring_setup", 1, ctypes.create_string_buffer(120)),
    }
    for who in ("server", "guardian", "sibling"):
        found[f"signal the {who}"] = _signalling(facts[who])
    return found


def _signalling(pid: int) -> Callable[[], None]:
    return lambda: os.kill(pid, signal.SIGCONT)


def _read_environment(pid: int) -> str:
    found = b"s3cret" in Path(f"/proc/{pid}/environ").read_bytes()
    return "succeeded" if found else "nothing there"


def _read_memory(pid: int) -> None:
    mapped = Path(f"/proc/{pid}/maps").read_text().split("-")[0]
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(int(mapped, 16))
        memory.read(16)


def _follow(path: str) -> None:
    Path(path).readlink()


def _list(path: str) -> None:
    list(Path(path).iterdir())


def _read(path: str) -> None:
    with Path(path).open("rb") as file:
        file.read(16)


def _append(path: str) -> None:
    with Path(path).open("ab"):
        pass


def _change_mode(path: str) -> str:
    before = Path(path).stat().st_mode
    Path(path).chmod(0o644)
    changed = Path(path).stat().st_mode != before
    Path(path).chmod(before & 0o777)
    return "succeeded" if changed else "refused (nothing happened)"


def _attach(pid: int) -> None:
    _call("ptrace", _PTRACE_SEIZE, pid, 0, 0)
    _LIBC.ptrace(_PTRACE_DETACH, pid, 0, 0)


def _read_by_call(pid: int) -> None:
    buffer = ctypes.create_string_buffer(8)
    here = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
    there = (ctypes.c_void_p * 2)(id(None), 8)  # siblings of one template are mapped alike
    _call("process_vm_readv", pid, here, 1, there, 1, 0)


def _take_descriptor(pid: int) -> None:
    process = os.pidfd_open(pid)
    try:
        _call("pidfd_getfd", process, 0, 0)
    finally:
        os.close(process)


def _connect(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=5).close()


def _datagram(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"text of a document", ("127.0.0.1", port))


def _listen() -> None:
    socket.create_server(("127.0.0.1", 0)).close()


def _connect_abstract(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"\0{name}")


def _leave_group() -> str:
    """By a child, since a worker leads its own group."""
    code = "import os; os.setsid(); print(os.getsid(0) == os.getpid())"
    left = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    return "succeeded" if left.stdout == b"True\n" else "refused (nothing happened)"


def _call(name: str, *arguments: Any) -> None:
    number = _CALLS[name][platform.machine() == "aarch64"]
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    if _LIBC.syscall(ctypes.c_long(number), *passed) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
