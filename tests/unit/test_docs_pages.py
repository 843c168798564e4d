"""The pages about the design say what the code says."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from docling_serve.engines.local.states import TRANSITIONS as TASK_MOVES
from docling_serve.settings import DoclingServeSettings, UvicornSettings, env_names
from docling_serve.subprocess_worker.pool.states import TRANSITIONS as WORKER_MOVES
from docling_serve.subprocess_worker.pool.states import StopReason
from tests.integration.promises.differences import DIFFERENCES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (
    *("architecture.md", "durability.md", "scale.md", "troubleshooting.md"),
    *("upstream-interface.md", "worker-lifecycle.md"),
)
#: Every page that a reader can come to.
LINKED = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")])
DRAWN = [("worker-lifecycle.md", WORKER_MOVES), ("durability.md", TASK_MOVES)]
VARIABLE = re.compile(r"\b(?:DOCLING_SERVE|UVICORN)_[A-Z0-9_]+")
#: ``upstream B18``, ``upstream E47, E48``, ``upstream H78-H80``: the facts that a comment cites.
CITATION = re.compile(r"[Uu]pstream ((?:[A-M]\d+(?:, |-)?)+)")
SETTING = re.compile(r"`((?:subprocess|sync|unload|eng|free_vram|max|use_subprocess)_[a-z_]+)`")


def _text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def _first_column(text: str, heading: str) -> list[str]:
    """The code words that begin the rows of the first table under ``heading``."""
    part = text.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]
    return re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)


def _drawn_moves(page: str) -> set[tuple[str, str]]:
    """The moves of the first diagram of a page; a state with states in braces stands for each of
    those."""
    diagram = _text(page).split("```mermaid\n")[1].split("```")[0]
    groups = {
        name: {state for move in re.findall(r"(\w+) --> (\w+)", inside) for state in move}
        for name, inside in re.findall(r"state (\w+) \{(.*?)\}", diagram, re.DOTALL)
    }
    moves: set[tuple[str, str]] = set()
    for origin, to in re.findall(r"(\S+) --> (\S+)", diagram):
        if "[*]" not in (origin, to):
            moves |= {(each, to) for each in groups.get(origin, {origin})}
    return moves


@pytest.mark.parametrize(("page", "table"), DRAWN)
def test_the_diagram_draws_the_legal_moves_and_no_other(
    page: str, table: Mapping[Any, frozenset[Any]]
) -> None:
    legal = {(state.value, to.value) for state, tos in table.items() for to in tos}
    assert _drawn_moves(page) == legal


@pytest.mark.parametrize(("page", "table"), DRAWN)
def test_every_state_has_one_row(page: str, table: Mapping[Any, frozenset[Any]]) -> None:
    rows = Counter(_first_column(_text(page), "States"))
    assert rows == Counter(state.value for state in table)


def test_every_reason_has_one_row() -> None:
    rows = Counter(_first_column(_text("worker-lifecycle.md"), "Why a worker ends"))
    assert rows == Counter(reason.value for reason in StopReason)


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_are_named_exist(page: str) -> None:
    text = _text(page)
    known = {
        variable
        for settings in (DoclingServeSettings, UvicornSettings)
        for name in settings.model_fields
        for variable in env_names(name, settings)
    }
    assert set(VARIABLE.findall(text)) <= known
    names = set(SETTING.findall(text)) - {reason.value for reason in StopReason}
    named = {f"DOCLING_SERVE_{name.upper()}" for name in names}
    assert named <= known


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file) if file else page
        assert linked.exists(), target
        if anchor:
            assert anchor in _anchors(linked.read_text(encoding="utf-8")), target


def test_the_list_of_pages_has_them_all() -> None:
    listed = set(re.findall(r"^\| \[([\w.-]+)\]", _text("README.md"), re.MULTILINE))
    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= listed


def _anchors(text: str) -> set[str]:
    """Where links into this page can lead: its headings, and anchors that it sets."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}
    return anchors | set(re.findall(r'<a id="(\w+)">', text))


def test_each_fact_of_upstream_has_one_anchor_in_order() -> None:
    facts = re.findall(r'^- <a id="(\w+)"></a>\*\*(\w+)\*\* ', _text("upstream-interface.md"), re.M)
    assert [anchor.upper() for anchor, _ in facts] == [label for _, label in facts]
    labels = [label for _, label in facts]
    assert labels == sorted(set(labels), key=lambda label: int(label[1:]))


def test_comments_cite_facts_that_a_page_has() -> None:
    on_pages = set(re.findall(r"\*\*([A-M]\d+)\*\* ", _text("upstream-interface.md")))
    on_pages |= set(re.findall(r"\b[A-M]\d+\b", _text("differences.md")))
    cited = {
        label
        for folder in ("docling_serve", "tests")
        for file in (ROOT / folder).rglob("*.py")
        for labels in CITATION.findall(file.read_text(encoding="utf-8"))
        for label in re.findall(r"[A-M]\d+", labels)
    }
    assert len(cited) > 30
    assert cited <= on_pages


def test_each_difference_between_engines_is_documented() -> None:
    part = _text("scale.md").split("Where an engine differs:")[1].split("\n## ")[0]
    rows = [tuple(row.strip("| ").split(" | ")) for row in part.splitlines() if row[:1] == "|"]
    told = [(row.promise, row.engine, row.what, row.why) for row in DIFFERENCES]

    assert rows[2:] == told
