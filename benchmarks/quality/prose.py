"""Endless English prose, the same each time: no two paragraphs start alike."""

from __future__ import annotations

import random

_SUBJECTS = (
    "The committee", "Every engineer", "A careful observer", "The northern station", "Our survey",
    "The second group", "An older instrument", "Nearly half of the towns", "The harbour office",
    "Each participant", "The revised method", "A small number of farms", "The river authority",
    "One of the laboratories", "The annual budget", "Most visitors", "The early record",
    "A separate team", "The new regulation", "Local transport",
)  # fmt: skip
_VERBS = (
    "measured", "described", "replaced", "compared", "reported", "reduced", "examined",
    "published", "collected", "estimated", "repaired", "counted", "explained", "extended",
    "confirmed", "reviewed",
)  # fmt: skip
_OBJECTS = (
    "the depth of the water", "several unusual samples", "the cost of heating", "older drawings",
    "a series of bridges", "the length of each journey", "the movement of birds", "winter traffic",
    "the quality of the soil", "two hundred letters", "the strength of the material",
    "changes in temperature", "a list of open questions", "the growth of young trees",
    "the number of passengers", "many minor errors",
)  # fmt: skip
_ENDS = (
    "before the end of the season", "in the following year", "along the western coast",
    "with the help of volunteers", "at three different sites", "after a long discussion",
    "without any delay", "for the first time since the war", "during the summer months",
    "under difficult conditions", "as part of a larger plan", "on behalf of the council",
    "in spite of heavy rain", "within a few weeks", "between the two villages",
)  # fmt: skip


class Prose:
    """Sentences and paragraphs from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret

    def sentence(self) -> str:
        """Eight to fifteen words."""
        pick = self._random.choice
        return f"{pick(_SUBJECTS)} {pick(_VERBS)} {pick(_OBJECTS)} {pick(_ENDS)}."

    def paragraph(self, sentences: int) -> str:
        """The given number of sentences, in one line."""
        return " ".join(self.sentence() for _ in range(sentences))

    def phrases(self, count: int) -> tuple[str, ...]:
        """Short texts, as lists have them."""
        return tuple(
            f"{self._random.choice(_OBJECTS).capitalize()} {self._random.choice(_ENDS)}"
            for _ in range(count)
        )

    def number(self, low: int, high: int) -> str:
        """A number as tables have them."""
        return f"{self._random.randint(low, high):,}"
