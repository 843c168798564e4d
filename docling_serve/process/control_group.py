"""What the kernel reports about this process's control group. Version 2 only; else nothing."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")


def read_number(file: str, mount: Path = MOUNT) -> int | None:
    """The number in ``file``, for example ``memory.current``; None if there is none, as in a
    ``memory.max`` without a limit."""
    with suppress(OSError, ValueError):
        return int(_read(file, mount))
    return None


def read_table(file: str, mount: Path = MOUNT) -> dict[str, int]:
    """The numbers in ``file`` by name, for example those of ``memory.stat``; empty if there are
    none."""
    with suppress(OSError, ValueError):
        pairs = (line.split() for line in _read(file, mount).splitlines())
        return {name: int(number) for name, number in pairs}
    return {}


def _read(file: str, mount: Path) -> str:
    own = Path("/proc/self/cgroup").read_text(encoding="ascii").partition("0::")[2].strip()
    group = mount / own.lstrip("/")
    # In a container that shares the host's namespace, the container's group is mounted at the top.
    return ((group if group.is_dir() else mount) / file).read_text(encoding="ascii")
