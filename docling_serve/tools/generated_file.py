"""The command line of a program that writes one file of the repository."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def write_or_check(
    program: str, path: str, render: Callable[[], str], argv: Sequence[str] | None
) -> int:
    """Write the text from ``render`` to ``path``, or with ``--check`` compare; 1 when the file
    differs or is missing. ``program`` is the name of the module to run."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=f"Write {path}.")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    parser.add_argument("--path", type=Path, default=Path(path), help="the file")
    options = parser.parse_args(argv)
    file: Path = options.path
    wanted = render()
    if not options.check:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(wanted, encoding="utf-8")
        return 0
    if file.is_file() and file.read_text(encoding="utf-8") == wanted:
        return 0
    print(f"{file} is out of date; run: python -m {program}", file=sys.stderr)
    return 1
