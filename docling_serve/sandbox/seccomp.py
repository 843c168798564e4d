"""System calls that a worker is denied, by a filter that the kernel runs before each call.

The calls fail with ``EPERM``, so that code which probes for one continues. A filter applies to all
threads and child processes, and cannot be removed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from docling_serve.sandbox.kernel import syscall
from docling_serve.sandbox.syscalls import number

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand (``struct sock_filter``, linux/filter.h)."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW = 0x7FFF0000  # SECCOMP_RET_ALLOW
_ERRNO = 0x00050000  # SECCOMP_RET_ERRNO
_SET_MODE_FILTER = 1
_ALL_THREADS = 1  # SECCOMP_FILTER_FLAG_TSYNC
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000
_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
_NAMESPACES = 0x7E020000  # CLONE_NEW*, linux/sched.h

_DENIED: Final = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd"),
    *("process_madvise", "migrate_pages", "setpriority", "ioprio_set"),
    *("mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen"),
    *("fsconfig", "fsmount", "fspick", "mount_setattr", "open_tree_attr", "unshare", "setns"),
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter"),
    *("io_uring_register", "keyctl", "add_key", "request_key", "fanotify_init"),
    *("name_to_handle_at", "open_by_handle_at", "lookup_dcookie", "nfsservctl"),
    *("modify_ldt", "iopl", "ioperm", "kexec_load", "kexec_file_load", "init_module"),
    *("finit_module", "delete_module", "reboot", "swapon", "swapoff", "acct", "quotactl"),
    *("quotactl_fd", "settimeofday", "adjtimex", "clock_settime", "clock_adjtime"),
    *("sethostname", "setdomainname", "syslog", "vhangup", "chown", "lchown", "fchownat"),
    *("setxattr", "lsetxattr", "removexattr", "lremovexattr", "setxattrat", "removexattrat"),
    "mknod",
)

#: Calls that report success and do nothing. docling starts LibreOffice in a session of its own,
#: which would outlive its worker; copying a file copies its mode.
_FEIGNED: Final = ("setsid", "setpgid", "chmod", "fchmodat", "fchmodat2")

_FAMILIES: Final = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)


def deny_calls() -> None:
    """Permanently deny this process what no conversion needs.

    Raises:
        OSError: the kernel refuses, or the machine is unknown.
    """
    _install(_program(_usual_rules()))


def deny_network() -> None:
    """Permanently deny this process every connection, and every socket except for existing ones,
    pairs, and Unix sockets. Those can send datagrams to a path that the user may write to.

    Raises:
        OSError: as for :func:`deny_calls`.
    """
    _install(_program(_network_rules()))


def _usual_rules() -> Iterator[list[Instruction]]:
    for name in _DENIED:
        yield from _call(name, [_answer(errno.EPERM)])
    for name in _FEIGNED:
        yield from _call(name, [_answer(0)])
    # The flags of clone3 are in memory, which a filter cannot read; the C library then uses clone.
    yield from _call("clone3", [_answer(errno.ENOSYS)])
    yield from _call("clone", [_argument(0), (_ANY_BIT, 0, 1, _NAMESPACES), _answer(errno.EPERM)])
    for name in ("prlimit64", "move_pages"):  # of another process
        yield from _call(name, [_argument(0), (_EQUAL, 1, 0, 0), _answer(errno.EPERM)])
    # What docling does to LibreOffice's group would hit the worker's own.
    own_group = -os.getpgid(0) & 0xFFFFFFFF
    yield from _call("kill", [_argument(0), (_EQUAL, 0, 1, own_group), _answer(errno.EPERM)])
    yield from _call("socket", _only_families(_FAMILIES))


def _network_rules() -> Iterator[list[Instruction]]:
    yield from _call("socket", _only_families((socket.AF_UNIX,)))
    yield from _call("connect", [_answer(errno.EPERM)])
    # Denied with an address among the arguments; a pair of sockets needs none.
    yield from _call("sendto", [_argument(4), (_EQUAL, 1, 0, 0), _answer(errno.EPERM)])


def _only_families(families: Iterable[int]) -> list[Instruction]:
    allowed = [step for family in families for step in ((_EQUAL, 0, 1, family), _answer(None))]
    return [_argument(0), *allowed, _answer(errno.EPERM)]


def _call(name: str, then: list[Instruction]) -> Iterator[list[Instruction]]:
    """Instructions for one call; a call they do not answer is allowed."""
    called = number(name)
    if called is not None:
        then = [*then, _answer(None)]
        yield [(_EQUAL, 0, len(then), called), *then]


def _program(rules: Iterable[list[Instruction]]) -> list[Instruction]:
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(0, f"not known for {machine}")
    other = _answer(errno.ENOSYS)
    start = [(_LOAD, 0, 0, _MACHINE), (_EQUAL, 1, 0, _MACHINES[machine]), other]
    start.append((_LOAD, 0, 0, _NUMBER))
    if machine == "x86_64":
        start += [(_AT_LEAST, 0, 1, _X32), other]
    return [*start, *(step for rule in rules for step in rule), _answer(None)]


def _argument(position: int) -> Instruction:
    """Load the lower half of an argument; both machines are little-endian."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * position)


def _answer(code: int | None) -> Instruction:
    """Fail with ``code``; 0 reports success and does nothing, None lets the call through."""
    return (_RETURN, 0, 0, _ALLOW if code is None else _ERRNO | code)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _install(program: list[Instruction]) -> None:
    call = number("seccomp")
    if call is None:
        raise OSError(0, f"not known for {platform.machine()}")
    packed = b"".join(struct.pack("=HBBI", *step) for step in program)
    outcome = syscall(
        call, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(_Program(len(program), packed))
    )
    if outcome > 0:
        raise OSError(0, f"thread {outcome} has another filter")
