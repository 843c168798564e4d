from __future__ import annotations

import json
from pathlib import Path

import pytest

from docling_serve.conversion.document_limits import DocumentLimits
from docling_serve.settings import DoclingServeSettings
from docling_serve.settings.converter_config import converter_config


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DoclingServeSettings:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DOCLING_SERVE_CONFIG_FILE", raising=False)
    return DoclingServeSettings(
        artifacts_path=tmp_path, max_num_pages=7, api_key="s3cret", allow_external_plugins=True
    )


def test_it_is_plain_data_without_the_servers_secrets(settings: DoclingServeSettings) -> None:
    config = converter_config(settings)

    assert json.loads(json.dumps(config)) == config
    assert "s3cret" not in json.dumps(config)
    assert config["artifacts_path"] == str(settings.artifacts_path)
    assert config["max_num_pages"] == 7
    assert config["allow_external_plugins"] is True


def test_a_converter_knows_every_field_of_it(settings: DoclingServeSettings) -> None:
    """docling-jobkit ignores names it does not know: a misspelt one would do nothing."""
    manager = pytest.importorskip("docling_jobkit.convert.manager")
    fields = {*manager.DoclingConverterManagerConfig.model_fields, *DocumentLimits.model_fields}

    assert set(converter_config(settings)) <= fields
    manager.DoclingConverterManagerConfig.model_validate(converter_config(settings))


def test_every_field_of_a_converter_can_be_set(settings: DoclingServeSettings) -> None:
    manager = pytest.importorskip("docling_jobkit.convert.manager")
    fields = {*manager.DoclingConverterManagerConfig.model_fields, *DocumentLimits.model_fields}

    assert fields - set(converter_config(settings)) == set()
