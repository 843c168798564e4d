"""Write `requirements-lite.txt` from what the installed packages require, or check the file.

python -m docling_serve.tools.lite_requirements [--check] [--path requirements-lite.txt]

Starts from docling-serve[rapidocr], follows the metadata of the packages installed here, and stops
at those that the lite install leaves out.
"""

import sys
from collections.abc import Iterator, Sequence
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from docling_serve.process.installation import LITE_LEAVES_OUT
from docling_serve.tools.generated_file import write_or_check

ROOT = Requirement("docling-serve[rapidocr]")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

_HEADER = """\
# The lite install: the server, formats that need no models, and the embedded profile for PDFs and
# images, without torch. Complete, so nothing else may be resolved:
#
#   pip install --no-deps -r requirements-lite.txt .
#
# Generated, do not edit:
#   python -m docling_serve.tools.lite_requirements

-c constraints.txt

"""


def requirements(python: str) -> frozenset[str]:
    """Names of the distributions of a lite install on a version of Python such as ``3.11``.

    Raises:
        PackageNotFoundError: the version is the running one, and a package is not installed.
    """
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
    }
    is_here = python == f"{sys.version_info.major}.{sys.version_info.minor}"
    seen: dict[str, set[str]] = {}
    waiting = [ROOT]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        known = seen.setdefault(name, set())
        extras = {"", *requirement.extras} - known
        known |= extras
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            if is_here and requirement.marker is None:
                raise
            continue  # a backport for another version of Python
        waiting += _needed(needed, extras, environment)
    return frozenset(seen) - {canonicalize_name(ROOT.name)}


def _needed(
    lines: Sequence[str], extras: set[str], environment: dict[str, str]
) -> Iterator[Requirement]:
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        applies = any(
            marker is None or marker.evaluate({**environment, "extra": extra}) for extra in extras
        )
        if applies and canonicalize_name(requirement.name) not in LITE_LEAVES_OUT:
            yield requirement


def render_lite_requirements() -> str:
    """The text of `requirements-lite.txt`: one name a line; `constraints.txt` has the versions."""
    by_python = {python: requirements(python) for python in PYTHONS}
    lines = []
    for name in sorted(frozenset().union(*by_python.values())):
        versions = [python for python in PYTHONS if name in by_python[python]]
        lines.append(name + _marker(versions))
    return _HEADER + "\n".join(lines) + "\n"


def _marker(versions: Sequence[str]) -> str:
    if len(versions) == len(PYTHONS):
        return ""
    if versions[0] == PYTHONS[0]:
        return f" ; python_version <= '{versions[-1]}'"
    assert versions[-1] == PYTHONS[-1]
    return f" ; python_version >= '{versions[0]}'"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file, or with ``--check`` compare it; 1 when it differs or is missing."""
    return write_or_check(
        "docling_serve.tools.lite_requirements",
        "requirements-lite.txt",
        render_lite_requirements,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
