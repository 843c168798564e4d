"""The server to compare with: docling-serve from the package index, in a venv of its own.

Both servers must do the same work, so the peer also gets the docling plugin of the embedded OCR
profile. The plugin belongs to a distribution that would replace the peer, so its files are put
under another name, in a folder that is only on the peer's import path.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION = "1.38.2"
VENV = ROOT / ".venv-peer"
PLUGIN = "docling_embedded_ocr"
# What a user installs next to docling-serve for RapidOCR's embedded models.
_REQUIREMENTS = (f"docling-serve=={VERSION}", "rapidocr>=3.9.1,<4", "onnxruntime>=1.20,<2")
_CONVERTING = ("docling-", "onnxruntime", "opencv-", "rapidocr", "torch")
_ASK_VERSION = "from importlib.metadata import version; print(version('docling-serve'))"


class PeerError(Exception):
    """There is no peer to compare with; the text says why."""


def find_or_install(python: Path | None) -> Path:
    """The interpreter of the peer's venv; creates the venv if it does not exist.

    ``python`` names an existing interpreter instead.

    Raises:
        PeerError: the installation failed, or the venv holds another version.
    """
    found = python.absolute() if python else VENV / "bin" / "python"  # servers run elsewhere
    if python is None and _version(found) != VERSION:
        _install(found)
    version = _version(found)
    if version != VERSION:
        raise PeerError(f"{found} has docling-serve {version or 'not at all'}, not {VERSION}")
    return found


def _install(python: Path) -> None:
    venv.create(VENV, with_pip=True, clear=True)
    pinned = VENV / "same-libraries.txt"
    pinned.write_text("\n".join(same_libraries()) + "\n")
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    constraints = ["-c", str(pinned)]
    done = subprocess.run([*command, *constraints, *_REQUIREMENTS], check=False, stdout=sys.stderr)
    if done.returncode:
        raise PeerError(f"pip could not install docling-serve {VERSION} into {VENV}")


def same_libraries() -> list[str]:
    """Requirements that pin the peer's conversion libraries to the versions tested here.

    Everything else is left to the peer: its release may exclude our other versions.
    """
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith(_CONVERTING)]


def _version(python: Path) -> str:
    if not python.exists():
        return ""
    # -I: without our own checkout, and without PYTHONPATH.
    asked = subprocess.run(
        [str(python), "-I", "-c", _ASK_VERSION], check=False, capture_output=True, text=True
    )
    return asked.stdout.strip()


def write_plugin(folder: Path) -> Path:
    """Put the plugin into ``folder`` as a distribution of its own; the folder is returned.

    Its modules name each other relatively, so they work under any name.
    """
    shutil.copytree(
        ROOT / "docling_serve" / "ocr_only",
        folder / PLUGIN,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    about = folder / f"{PLUGIN}-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PLUGIN}\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[docling]\n{PLUGIN} = {PLUGIN}\n")
    return folder
