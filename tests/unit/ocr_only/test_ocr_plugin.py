"""How docling finds the plugin, what importing it costs, and the profile that selects it."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from docling_serve.settings import DoclingServeSettings

REPOSITORY = Path(__file__).parents[3]

# docling's own table factory needs torch (one of its engines does), so it is not asked here.
KINDS = """
from docling_serve.process.imports import leave_out_torch
leave_out_torch()
import docling_serve.ocr_only
from docling.models.factories import get_layout_factory
factory = get_layout_factory(allow_external_plugins=True)
layout = factory.create_instance(
    options=factory.create_options("full_page"),
    artifacts_path=None, accelerator_options=None, enable_remote_services=False,
)
tables = docling_serve.ocr_only.table_structure_engines()["table_structure_engines"]
print(type(layout).__name__, "embedded" in factory.registered_kind)
print(*(table.get_options_type().kind for table in tables))
"""


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    ).stdout


def test_the_entry_point_names_the_package() -> None:
    (plugin,) = (
        entry for entry in entry_points(group="docling") if entry.name == "docling_serve_ocr_only"
    )
    assert plugin.value == "docling_serve.ocr_only"


def test_importing_the_package_imports_no_docling() -> None:
    code = (
        "import sys, docling_serve.ocr_only, docling_serve.ocr_only.text_blocks\n"
        "print([name for name in ('docling', 'docling_core', 'numpy') if name in sys.modules])"
    )
    assert run(code).strip() == "[]"


def test_docling_offers_the_kinds_without_torch() -> None:
    assert run(KINDS).split() == ["FullPageLayout", "True", "none", "embedded"]


@pytest.mark.parametrize(
    ("profile", "layout"), [("ocr-only.yaml", "full_page"), ("embedded.yaml", "embedded")]
)
def test_a_profile_is_made_of_known_settings(
    profile: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCLING_SERVE_CONFIG_FILE", str(REPOSITORY / "examples" / profile))
    monkeypatch.chdir(tmp_path)
    settings = DoclingServeSettings()
    assert settings.model_extra == {}
    assert settings.allow_external_plugins
    assert settings.default_layout_preset == layout
    assert settings.default_table_structure_preset in settings.custom_table_structure_presets
    # A request without options asks for the OCR preset "auto".
    assert settings.custom_ocr_presets["auto"]["kind"] == "rapidocr"
