"""A folder of packages as a lite install has them, made of links to those installed here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from tests.helpers.server import REPOSITORY, documented_command

LITE_LIST = REPOSITORY / "requirements-lite.txt"


def listed() -> list[str]:
    """The distributions that a lite install has on every version of Python."""
    lines = [line for line in LITE_LIST.read_text().splitlines() if re.match(r"[a-z]", line)]
    assert lines, f"{LITE_LIST} is empty"
    return [line for line in lines if ";" not in line]


def link_packages(folder: Path) -> None:
    """Have ``folder`` hold what the list names, and nothing else but docling-serve's metadata."""
    for name in (*listed(), "docling-serve"):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()}:
            link = folder / top
            if top in ("..", "/", "__pycache__") or top.endswith(".pth"):
                continue
            if not link.is_symlink():  # a namespace that several distributions share
                link.symlink_to(Path(str(distribution.locate_file(top))))


def without_other_packages(port: int) -> Sequence[str]:
    """The documented command in a Python that sees the packages of ``PYTHONPATH`` only."""
    return ["-S", *documented_command(port)]
