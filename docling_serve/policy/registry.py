"""What the installed docling can do, as far as this is known without loading a model.

Kinds come from docling's option classes, not from its model factories: the table factory imports
torch, and the server must not. Presets of chunking and tables exist only in docling-jobkit's
converter manager, which imports torch too, so their names are repeated here (source:
``docling_jobkit.convert.manager`` 3.9.1; a test compares them).
"""

from __future__ import annotations

import inspect
import logging
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from types import MappingProxyType

from docling.datamodel import pipeline_options
from docling.datamodel.pipeline_options import (
    BaseLayoutOptions,
    BaseOptions,
    BaseTableStructureOptions,
    OcrOptions,
)
from docling.experimental.datamodel.table_crops_layout_options import TableCropsLayoutOptions

from docling_serve.policy.connectors import SOURCE_CONNECTORS
from docling_serve.policy.needs import MODULES
from docling_serve.process.installation import is_installed

_log = logging.getLogger(__name__)

Kinds = Mapping[str, type[BaseOptions]]

CHUNKING_PRESETS = (
    "granite_embedding_278m",
    "multilingual_e5_large",
    "minilm_l6",
    "hierarchical",
)
TABLE_STRUCTURE_PRESETS: Mapping[str, str] = MappingProxyType(
    {
        "tableformer_v1_accurate": "docling_tableformer",
        "tableformer_v1_fast": "docling_tableformer",
        "tableformer_v2": "docling_tableformer_v2",
    }
)
"""Preset to kind."""

_OCR_MODULES = {
    "easyocr": "easyocr",
    "nemotron-ocr": "nemotron_ocr",
    "ocrmac": "ocrmac",
    "rapidocr": "rapidocr",
    "tesserocr": "tesserocr",
}
_PLUGIN_FUNCTIONS = {
    "ocr": "ocr_engines",
    "layout": "layout_engines",
    "table_structure": "table_structure_engines",
}


@dataclass(frozen=True)
class Registry:
    """Kinds per stage, and the storage kinds whose libraries are installed.

    ``open_stages`` are those to which a plugin may add kinds that could not be read here; unknown
    kinds of such a stage cannot be refused.
    """

    ocr: Kinds
    layout: Kinds
    table_structure: Kinds
    storage_kinds: tuple[str, ...] = ()
    open_stages: frozenset[str] = frozenset()
    missing_ocr: frozenset[str] = field(default_factory=frozenset)
    """OCR kinds that docling knows but whose engine is not installed here."""
    absent: frozenset[str] = field(default_factory=frozenset)
    """Modules that stages need (:data:`~docling_serve.policy.needs.MODULES`) and that are not
    installed here."""

    @classmethod
    def discover(
        cls,
        *,
        allow_external_plugins: bool = False,
        plugins: Iterable[EntryPoint] | None = None,
    ) -> Registry:
        """Read what is installed. Imports external plugins only where they are allowed.

        ``plugins`` are the entry points of docling's plugins, by default those installed.
        """
        kinds: dict[str, dict[str, type[BaseOptions]]] = {
            "ocr": _declared(OcrOptions),
            "layout": _declared(BaseLayoutOptions)
            | {TableCropsLayoutOptions.kind: TableCropsLayoutOptions},
            "table_structure": _declared(BaseTableStructureOptions),
        }
        open_stages: set[str] = set()
        if plugins is None:
            plugins = entry_points(group="docling")
        for plugin in _external(plugins) if allow_external_plugins else ():
            found = _plugin_kinds(plugin)
            if found is None:
                open_stages.update(kinds)
                continue
            for stage, added in found.items():
                kinds[stage] = added | kinds[stage]
        return cls(
            ocr=kinds["ocr"],
            layout=kinds["layout"],
            table_structure=kinds["table_structure"],
            storage_kinds=tuple(k for k, module in SOURCE_CONNECTORS.items() if _has(module)),
            open_stages=frozenset(open_stages),
            missing_ocr=frozenset(k for k in kinds["ocr"] if not _engine_installed(k)),
            absent=frozenset(module for module in MODULES if not is_installed(module)),
        )


def _declared(base: type[BaseOptions]) -> dict[str, type[BaseOptions]]:
    """The option classes of ``base`` that docling's options module declares with a kind."""
    return {
        cls.kind: cls
        for _, cls in inspect.getmembers(pipeline_options, inspect.isclass)
        if issubclass(cls, base) and hasattr(cls, "kind") and cls.kind
    }


def _external(plugins: Iterable[EntryPoint]) -> Iterator[EntryPoint]:
    return (plugin for plugin in plugins if not plugin.module.startswith("docling."))


def _plugin_kinds(plugin: EntryPoint) -> dict[str, dict[str, type[BaseOptions]]] | None:
    """Kinds per stage, or ``None`` where the plugin needs what is marked absent here (torch)."""
    try:
        module = plugin.load()
        return {
            stage: {
                model.get_options_type().kind: model.get_options_type()
                for model in getattr(module, function)()[function]
            }
            for stage, function in _PLUGIN_FUNCTIONS.items()
            if callable(getattr(module, function, None))
        }
    except (ImportError, AttributeError, NameError) as exc:
        _log.warning(
            "kinds of docling plugin %s are known to the workers only: %s", plugin.name, exc
        )
        return None


def _engine_installed(kind: str) -> bool:
    if kind == "tesseract":
        return shutil.which("tesseract") is not None
    if kind == "ocrmac" and sys.platform != "darwin":
        return False
    module = _OCR_MODULES.get(kind)
    return module is None or _has(module)


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a parent package is missing, or marked absent
        return False
