from __future__ import annotations

import re

from docling_serve.observability.versions import component_versions

#: upstream B13
KNOWN = (
    "docling-serve",
    "docling-jobkit",
    "docling",
    "docling-core",
    "docling-ibm-models",
    "docling-parse",
)


def test_components_go_by_the_names_clients_know() -> None:
    versions = component_versions()

    assert [name for name in KNOWN if name in versions] == list(versions)
    assert {"docling-serve", "docling-jobkit", "docling", "docling-core"} <= set(versions)


def test_every_version_is_one() -> None:
    assert all(re.match(r"\d+\.\d+", version) for version in component_versions().values())


def test_docling_counts_whichever_distribution_brings_it() -> None:
    assert component_versions()["docling"].startswith("2.")
