"""The measurements of a run, as plain data, and its JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class Observation:
    """All values of one measure from one round, of one server."""

    measure: str
    subject: str
    round: int
    values: tuple[float, ...]


@dataclass(frozen=True)
class Curve:
    """Points of a quantity over time or over tasks. ``x`` and ``y`` say in words what they are."""

    name: str
    subject: str
    x: str
    y: str
    points: tuple[tuple[float, float], ...]


@dataclass
class Results:
    """A whole run. ``machine`` and ``setup`` are for the reader: names and values in words."""

    machine: dict[str, str] = field(default_factory=dict)
    setup: dict[str, str] = field(default_factory=dict)
    observations: list[Observation] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, measure: str, subject: str, number: int, values: Iterable[float]) -> None:
        """Store values of a measure; an empty list is not an observation."""
        kept = tuple(round(value, 6) for value in values)
        if kept:
            self.observations.append(Observation(measure, subject, number, kept))

    def draw(
        self, name: str, subject: str, axes: tuple[str, str], points: Sequence[tuple[float, float]]
    ) -> None:
        """Store a curve; ``axes`` are the words for x and y."""
        kept = tuple((round(x, 3), round(y, 3)) for x, y in points)
        self.curves.append(Curve(name, subject, *axes, kept))

    def by_round(self, measure: str, subject: str) -> dict[int, list[float]]:
        """The values of a measure, round by round."""
        found: dict[int, list[float]] = {}
        for one in self.observations:
            if (one.measure, one.subject) == (measure, subject):
                found.setdefault(one.round, []).extend(one.values)
        return found

    def pooled(self, measure: str, subject: str) -> list[float]:
        """The values of a measure of all rounds."""
        return [value for values in self.by_round(measure, subject).values() for value in values]

    def curve(self, name: str, subject: str) -> Curve | None:
        """A curve by its name, None if it was not recorded."""
        return next((c for c in self.curves if (c.name, c.subject) == (name, subject)), None)

    def write(self, file: Path) -> None:
        """Write it as JSON, one observation per line."""
        file.parent.mkdir(parents=True, exist_ok=True)
        lists = {
            name: [asdict(one) for one in getattr(self, name)]
            for name in ("observations", "curves")
        }
        head = {"schema": SCHEMA, "machine": self.machine, "setup": self.setup, "notes": self.notes}
        rows = [f'"{name}": [\n{_lines(rows)}\n]' for name, rows in lists.items()]
        body = json.dumps(head, indent=1, allow_nan=False)[:-2]
        file.write_text(",\n".join([body, *rows]) + "\n}\n", encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> Results:
        """Read the file that ``write`` wrote.

        Raises:
            ValueError: it has another schema.
        """
        data = json.loads(file.read_text(encoding="utf-8"))
        if data.get("schema") != SCHEMA:
            raise ValueError(f"{file} is of schema {data.get('schema')}, not {SCHEMA}")
        return cls(
            machine=data["machine"],
            setup=data["setup"],
            notes=data["notes"],
            observations=[
                Observation(o["measure"], o["subject"], o["round"], tuple(o["values"]))
                for o in data["observations"]
            ],
            curves=[
                Curve(c["name"], c["subject"], c["x"], c["y"], tuple(map(_point, c["points"])))
                for c in data["curves"]
            ],
        )


def _point(pair: Sequence[float]) -> tuple[float, float]:
    x, y = pair
    return x, y


def _lines(rows: list[dict[str, Any]]) -> str:
    assert all(math.isfinite(v) for row in rows for v in row.get("values", ()))
    return ",\n".join(json.dumps(row) for row in rows)
