"""Every known weakness of docling-serve 1.38.2 is better here, or kept on purpose."""

from __future__ import annotations

import pytest

from tests.contract.documented import is_documented

#: Labels of the weaknesses, as docs/differences.md has them.
WEAK = (
    "A8 B12 B15 B19 D33 D34 D35 D36 D39 E41 E44 E45 E50 F54 F55 F57 F60 G66 G68 G69 G71 G72 G73"
    " G75 G76 I84 I85 I86 J90 J91 K93 L96 M99 M100 M101 M102 M103"
)


@pytest.mark.parametrize("label", WEAK.split())
def test_weakness_has_a_row(label: str) -> None:
    assert is_documented(label)


def test_a_label_is_not_found_in_prose() -> None:
    assert not is_documented("Clients send it")
    assert not is_documented("Z99")
