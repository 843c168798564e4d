from __future__ import annotations

import ast
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

import pytest

from docling_serve.policy.registry import CHUNKING_PRESETS, TABLE_STRUCTURE_PRESETS, Registry


def jobkit_manager() -> ast.Module:
    """The source of docling-jobkit's converter manager, which imports torch, so is only read."""
    spec = find_spec("docling_jobkit.convert.manager")
    assert spec is not None
    assert spec.origin is not None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def test_chunking_presets_are_those_of_jobkit() -> None:
    names = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in jobkit_manager().body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id.startswith("CHUNKING_PRESET_")
    }
    assert sorted(names.values()) == sorted(CHUNKING_PRESETS)


def test_table_structure_presets_are_those_of_jobkit() -> None:
    (presets,) = (
        ast.literal_eval(node.value)
        for node in ast.walk(jobkit_manager())
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "built_in_presets"
    )
    kinds = {name: options["kind"] for name, options in presets.items()}
    assert kinds == dict(TABLE_STRUCTURE_PRESETS)


def test_our_plugin_is_read_where_plugins_are_allowed() -> None:
    closed, opened = Registry.discover(), Registry.discover(allow_external_plugins=True)
    assert "full_page" not in closed.layout
    assert "full_page" in opened.layout
    assert "none" in opened.table_structure
    assert "docling_tableformer" in opened.table_structure


@pytest.mark.parametrize(
    "value",
    ["no_such_package.plugin", "tests.unit.policy.deployments:no_such_name"],
)
def test_a_plugin_that_cannot_be_read_opens_its_stages(value: str) -> None:
    plugins = [EntryPoint(name="theirs", value=value, group="docling")]
    found = Registry.discover(allow_external_plugins=True, plugins=plugins)
    assert found.open_stages == {"ocr", "layout", "table_structure"}
    assert Registry.discover(plugins=plugins).open_stages == frozenset()
