"""The limits for strangers: each is a setting, and none is looser than the default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from docling_serve.settings import DoclingServeSettings, find_unknown_settings

EXAMPLES = Path(__file__).parents[3] / "examples"
PROFILE = EXAMPLES / "public.yaml"
VALUES: dict[str, Any] = yaml.safe_load(PROFILE.read_text())


def test_the_profile_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCLING_SERVE_CONFIG_FILE", str(PROFILE))
    settings = DoclingServeSettings()
    assert find_unknown_settings(settings) == []
    assert settings.max_image_frames == VALUES["max_image_frames"]


@pytest.mark.parametrize("other", ["embedded.yaml", "ocr-only.yaml"])
def test_it_can_be_put_into_one_file_with(other: str) -> None:
    assert VALUES.keys().isdisjoint(yaml.safe_load((EXAMPLES / other).read_text()))


@pytest.mark.parametrize("name", VALUES)
def test_no_limit_is_looser_than_the_default(name: str) -> None:
    default = DoclingServeSettings.model_fields[name].default
    value = getattr(DoclingServeSettings.model_validate({name: VALUES[name]}), name)
    if name == "min_body_rate" or name.startswith("use_"):
        assert value > default
    elif default:  # 0 is no limit
        assert value <= default


def test_the_page_has_the_values() -> None:
    page = (PROFILE.parents[1] / "docs" / "limits.md").read_text()
    for name in ("max_pictures", "max_table_cells", "max_image_frames", "max_form_paints"):
        (row,) = [line for line in page.splitlines() if f"`{name}`" in line and "|" in line][:1]
        default = DoclingServeSettings.model_fields[name].default
        assert f"{default:,}" in row
        assert f"{VALUES[name]:,}" in row
