"""System calls that Python does not wrap, and the rights that a process can give up."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path
from typing import Final

_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_LIBC: Final = ctypes.CDLL(None, use_errno=True)

#: What root keeps in a worker: access to other users' files (linux/capability.h).
_KEPT_CAPABILITIES = (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
_CAPABILITY_VERSION_3 = 0x20080522
_CAPSET = {"x86_64": 126, "aarch64": 91}  # asm/unistd_64.h, asm-generic/unistd.h


def syscall(number: int, *arguments: object) -> int:
    """Call the kernel. Integers are passed as ``long``, None as a null pointer.

    Raises:
        OSError: the kernel's error.
    """
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = int(_LIBC.syscall(ctypes.c_long(number), *passed))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def prctl(option: int, value: int) -> None:
    """Raises ``OSError`` if the kernel refuses."""
    if _LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def gain_no_privileges() -> None:
    """Keep programs that this process starts from gaining rights. Permanent, and inherited."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def hide_memory() -> None:
    """Keep other processes of this user out of the memory and the environment of this one, and out
    of its open files in ``/proc``; no core file is written either. A fork inherits this, an
    executed program does not. Root with CAP_SYS_PTRACE may look anyway."""
    prctl(_PR_SET_DUMPABLE, 0)


def show_memory() -> None:
    """Undo :func:`hide_memory`, which a fork has inherited."""
    prctl(_PR_SET_DUMPABLE, 1)


def drop_capabilities() -> None:
    """Give up what root may do beyond other users, except for access to files of any owner. Any
    other user has nothing to give up.

    Raises:
        OSError: the kernel refuses, or the number of the call is not known for this machine.
    """
    number = _CAPSET.get(platform.machine())
    if number is None:
        raise OSError(0, f"not known for {platform.machine()}")
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    held = _held_capabilities() & _KEPT_CAPABILITIES
    sets = struct.pack("=6I", held, held, 0, 0, 0, 0)  # effective, permitted, inheritable; twice
    syscall(number, header, sets)


def _held_capabilities() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("CapPrm:")[2].split()[0], 16)
