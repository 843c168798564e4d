"""The doctor's findings, each with a level, and with advice for the bad ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Level(str, Enum):
    """How much a finding matters.

    ``OK``: as it should be. ``NOTE``: worth knowing. ``WARNING``: works, but not as well as this
    machine could. ``PROBLEM``: something does not work, or a promise does not hold.
    """

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


class Area(str, Enum):
    """The heading under which a finding is printed, in this order."""

    GPU = "GPU"
    ENGINES = "Engines"
    LIBRARIES = "Libraries"
    WORKERS = "Worker processes"
    MODE = "Mode and limits"
    CONVERSION = "Conversion"


@dataclass(frozen=True)
class Finding:
    """One sentence. ``advice`` says what to do next; warnings and problems must have one."""

    area: Area
    level: Level
    text: str
    advice: str = ""

    def __post_init__(self) -> None:
        if self.level in (Level.WARNING, Level.PROBLEM) and not self.advice:
            raise ValueError(f"no advice for: {self.text}")


def ok(area: Area, text: str) -> Finding:
    """Something is as it should be."""
    return Finding(area, Level.OK, text)


def note(area: Area, text: str, advice: str = "") -> Finding:
    """Something is worth knowing."""
    return Finding(area, Level.NOTE, text, advice)


def warning(area: Area, text: str, advice: str) -> Finding:
    """Something works, but not as well as it could."""
    return Finding(area, Level.WARNING, text, advice)


def problem(area: Area, text: str, advice: str) -> Finding:
    """Something does not work."""
    return Finding(area, Level.PROBLEM, text, advice)


def exit_status(findings: Sequence[Finding]) -> int:
    """0 without a problem, else 1."""
    return int(any(finding.level is Level.PROBLEM for finding in findings))
