"""Landlock: what a process may reach in the file system, and which processes it may signal.

The kernel checks every file when it is opened, by the folders it lies in at that moment. Rights can
only be given up, and child processes inherit what is left. Constants and structures are those of
``linux/landlock.h``; the versions are described in ``Documentation/userspace-api``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from docling_serve.sandbox.kernel import syscall

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same on every machine
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_FIRST_RIGHTS = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

_READING = _EXECUTE | _READ_FILE | _READ_DIR
_NOT_IN_WRITING = _EXECUTE | _MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV
_DEVICE = _READ_FILE | _WRITE_FILE | _IOCTL_DEV

_BIND_TCP = 1 << 0
_ABSTRACT_SOCKETS, _SIGNALS = 1 << 0, 1 << 1

#: The first versions that restrict binding TCP ports, and signals and abstract sockets.
NETWORK_VERSION = 4
SCOPES_VERSION = 6

_MISSING = {
    errno.ENOSYS: "the kernel has no Landlock",
    errno.EOPNOTSUPP: "Landlock is not in the kernel's list of security modules (lsm=)",
}


@dataclass(frozen=True)
class Reach:
    """What a process keeps of the file system; paths that do not exist are skipped."""

    read: Iterable[str] = ()
    write: Iterable[str] = ()
    devices: Iterable[str] = ()


def version() -> int:
    """The version of the kernel's Landlock interface.

    Raises:
        OSError: there is none, or it is turned off; the text says which.
    """
    try:
        return syscall(_CREATE, None, 0, _VERSION)
    except OSError as exc:
        raise OSError(exc.errno, _MISSING.get(exc.errno or 0, exc.strerror)) from exc


def confine(reach: Reach | None) -> None:
    """Restrict file access to ``reach``; None leaves it unrestricted. Where the kernel supports it,
    signals and connections to abstract sockets reach only this process and its children, and no TCP
    port can be bound. Permanent, for this thread and its children.

    Raises:
        OSError: as for :func:`version`, or the kernel refuses.
    """
    abi = version()
    handled = 0 if reach is None else _rights(abi)
    network = _BIND_TCP if abi >= NETWORK_VERSION else 0
    scopes = _ABSTRACT_SOCKETS | _SIGNALS if abi >= SCOPES_VERSION else 0
    fields = [handled, *([network] if abi >= NETWORK_VERSION else [])]
    fields += [scopes] if abi >= SCOPES_VERSION else []
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = syscall(_CREATE, attributes, len(attributes), 0)
    try:
        if reach is not None:
            _allow(ruleset, reach.read, _READING & handled)
            _allow(ruleset, reach.write, handled & ~_NOT_IN_WRITING)
            _allow(ruleset, reach.devices, _DEVICE & handled)
        syscall(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _rights(abi: int) -> int:
    rights = _FIRST_RIGHTS
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        rights |= right if abi >= since else 0
    return rights


def _allow(ruleset: int, paths: Iterable[str], rights: int) -> None:
    for path in paths:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            rule = struct.pack("=Qi", rights if is_folder else rights & _OF_FILES, descriptor)
            syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.c_char_p(rule), 0)
        finally:
            os.close(descriptor)
