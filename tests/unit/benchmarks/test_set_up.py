"""What the benchmarks convert, in which order, and how the other server gets our plugin."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import distributions
from pathlib import Path

import pytest

from benchmarks import inputs, peer
from benchmarks.measures import default
from benchmarks.plan import QUICK, Bench, as_it_comes, loaded
from benchmarks.servers import UPSTREAM, Product, this_build
from benchmarks.steps import QUICK_GROUPS, groups, needs_peer, steps
from tests.helpers.documents import scanned_pdf, scanned_png


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    there = Product(UPSTREAM, Path(sys.executable), tmp_path)
    small = inputs.markdown_set()
    page = inputs.Document("page.pdf", b"", 1)
    chosen = inputs.Inputs(small, small, page, page, page)
    return Bench(this_build(), there, chosen, QUICK, workers=2)


def test_own_documents_are_sorted_into_kinds(tmp_path: Path) -> None:
    (tmp_path / "long.pdf").write_bytes(scanned_pdf(3))
    (tmp_path / "photo.png").write_bytes(scanned_png())
    (tmp_path / "notes.md").write_text("# Notes")
    (tmp_path / "page.html").write_text("<p>Page</p>")

    found = inputs.from_folder(tmp_path)

    assert [one.name for one in found.small] == ["notes.md"]
    assert [one.name for one in found.office] == ["page.html"]
    assert (found.page.name, found.page.pages) == ("photo.png", 1)
    assert (found.long_scan.name, found.long_scan.pages) == ("long.pdf", 3)


def test_a_missing_kind_is_filled_with_the_bundled_one(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(scanned_png())

    found = inputs.from_folder(tmp_path)

    assert found.small == inputs.markdown_set()
    assert found.scan is found.page


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file"):
        inputs.from_folder(tmp_path)


def test_the_first_server_changes_from_round_to_round(bench: Bench) -> None:
    bench.scale = replace(QUICK, rounds=2)

    titles = [step.title for step in steps(bench, ["requests"])]

    assert titles == [
        "round 1, requests, this build",
        f"round 1, requests, {UPSTREAM}",
        f"round 2, requests, {UPSTREAM}",
        "round 2, requests, this build",
    ]


def test_every_part_can_be_asked_for_alone(bench: Bench) -> None:
    everything = [step.title for step in steps(bench, groups())]

    one_by_one = [step.title for name in groups() for step in steps(bench, [name])]

    assert sorted(one_by_one) == sorted(everything)


def test_the_default_configuration_comes_first(bench: Bench) -> None:
    titles = [step.title for step in steps(bench, groups())]

    assert groups()[0] == "default"
    assert titles[0] == "round 1, default: alone, this build"


def test_one_document_of_each_kind_comes_alone(bench: Bench) -> None:
    office = [inputs.Document("sheet.xlsx", b""), inputs.Document("Letter.DOCX", b"")]
    chosen = replace(bench.inputs, office=office)

    found = default.documents(chosen)

    assert list(found) == list(default.KINDS)
    assert [one.name for one in found.values()] == ["notes.md", "Letter.DOCX", "page.pdf"]
    assert default.documents(replace(chosen, office=office[:1]))[default.DOCX] == office[0]


def test_a_quick_run_does_less(bench: Bench) -> None:
    quick = [step.title for step in steps(bench, QUICK_GROUPS)]

    assert quick
    assert set(quick) < {step.title for step in steps(bench, groups())}


def test_the_peer_is_needed_where_it_takes_part() -> None:
    assert needs_peer(["isolation", "default"])
    assert not needs_peer(["isolation", "pool"])


def test_nothing_but_the_mode_is_set_in_the_default_configuration(bench: Bench) -> None:
    assert as_it_comes(bench.ours) == {"use_subprocess": "true"}


def test_upstream_gets_no_setting_that_it_does_not_know(bench: Bench) -> None:
    assert as_it_comes(bench.peer) == {}
    assert loaded(bench.peer, 2) == {"eng_loc_num_workers": "2"}


def test_the_plugin_is_found_without_our_distribution(tmp_path: Path) -> None:
    folder = peer.write_plugin(tmp_path / "plugin")

    (found,) = distributions(path=[str(folder)])
    named = {path.name: path.read_text() for path in (folder / peer.PLUGIN).glob("*.py")}

    assert [(p.group, p.value) for p in found.entry_points] == [("docling", peer.PLUGIN)]
    source = peer.ROOT / "docling_serve" / "ocr_only"
    assert set(named) == {path.name for path in source.glob("*.py")}
    assert (folder / peer.PLUGIN / "weights" / "layout_cdla.onnx").is_file()
    assert [name for name, text in named.items() if "import docling_serve" in text] == []
    assert [name for name, text in named.items() if "from docling_serve" in text] == []


def test_a_peer_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(peer.PeerError, match="not at all"):
        peer.find_or_install(tmp_path / "python")


def test_both_servers_convert_with_the_same_libraries() -> None:
    """The peer's other requirements stay its own."""
    pinned = peer.same_libraries()

    assert {line.partition("==")[0] for line in pinned} >= {"docling-slim", "rapidocr", "torch"}
    assert all("==" in line for line in pinned)
    assert not [line for line in pinned if line.startswith(("docling-serve", "redis", "ray"))]
