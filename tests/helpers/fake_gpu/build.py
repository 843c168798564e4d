"""The fake libraries, made from the C sources beside this file."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

_HERE = Path(__file__).parent
_LIBRARIES = {"fake_nvml.c": "libnvidia-ml.so.1", "fake_cuda.c": "libcuda.so.1"}
_LIMIT_S = 60


def compiler() -> str | None:
    """The system's C compiler, None without one."""
    return shutil.which("gcc") or shutil.which("cc")


def build(folder: Path, lacking: Collection[str] = ()) -> None:
    """Put both libraries into ``folder``, without the functions ``lacking``.

    Raises:
        subprocess.CalledProcessError: the compiler refused a source.
    """
    used = compiler()
    assert used is not None, "no C compiler"
    hidden = folder / "exported"
    local = "".join(f" {name};" for name in (*sorted(lacking), "*"))
    hidden.write_text(f"{{ global: nvml*; cu*; local:{local} }};\n")
    for source, library in _LIBRARIES.items():
        command = [used, "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        command += ["-fvisibility=hidden", f"-Wl,-soname,{library}"]
        command += [f"-Wl,--version-script={hidden}", "-o", str(folder / library)]
        command += [str(_HERE / source), "-ldl"]
        subprocess.run(command, check=True, timeout=_LIMIT_S)
