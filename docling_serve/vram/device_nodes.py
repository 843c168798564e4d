"""The device node that CUDA needs and workers cannot create.

The first CUDA call on a machine runs the setuid program ``nvidia-modprobe``, which loads the kernel
module ``nvidia-uvm`` and creates ``/dev/nvidia-uvm``. A worker sets ``no_new_privs``, under which a
setuid program gains no rights, so CUDA would report no GPU there (apptainer/singularity 1441). The
server, which does not set it, runs the program first.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_DEVICES = Path("/dev")
_HELPER = "nvidia-modprobe"
_LIMIT_S = 20.0


def make_uvm_node(devices: Path = _DEVICES, limit_s: float = _LIMIT_S) -> str:
    """Create ``nvidia-uvm`` in ``devices`` if a GPU has its node there and ``nvidia-uvm`` does not.

    Returns:
        Why CUDA may find no GPU in workers, and what to do; empty if nothing is missing. Blocks;
        never raises.
    """
    node = devices / "nvidia-uvm"
    if node.exists() or next(devices.glob("nvidia[0-9]*"), None) is None:
        return ""
    helper = shutil.which(_HELPER)
    said = f"{_HELPER} is not installed"
    if helper is not None:
        said = _run([helper, "-u", "-c=0"], limit_s)
    if node.exists():
        return ""
    return (
        f"{node} is missing, so CUDA will find no GPU in workers ({said}):"
        f" run `{_HELPER} -u -c=0` as root before the server starts"
    )


def _run(command: list[str], limit_s: float) -> str:
    """Describe how the program failed, in words."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{_HELPER} did not exit within {limit_s:g} s"
    except OSError as exc:
        return f"{_HELPER} could not be run: {exc}"
    return done.stderr.strip() or f"{_HELPER} exited with status {done.returncode}"
