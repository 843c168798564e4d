from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from docling_serve.policy import PolicyViolation, ServicePolicy
from tests.unit.policy.deployments import policy


def refusal(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(PolicyViolation) as caught:
        call(*args, **kwargs)
    assert caught.value.status_code == 422
    return str(caught.value.detail)


def test_source_count() -> None:
    deployment = policy(max_sources_per_request=2)
    deployment.check_source_count(2, "files")
    assert refusal(deployment.check_source_count, 4, "files") == (
        "Too many files: 4 exceeds the maximum of 2."
    )
    assert refusal(deployment.check_source_count, 3) == (
        "Too many sources: 3 exceeds the maximum of 2."
    )


def test_presigned_urls_need_artifact_storage() -> None:
    assert refusal(policy().check_targets, ["presigned_url"]) == (
        "Presigned URL target requires artifact storage to be configured and enabled on the server."
    )
    policy(artifact_storage_enabled=True).check_targets(["presigned_url"])


def test_chunks_have_no_presigned_urls() -> None:
    deployment = policy(artifact_storage_enabled=True)
    assert refusal(deployment.check_targets, ["presigned_url"], chunk=True) == (
        "presigned_url target is not supported for chunk endpoints."
    )


def test_target_kinds() -> None:
    policy().check_targets(["inbody", "zip", "put", "s3"])
    assert refusal(policy().check_targets, ["kafka"]) == (
        "Target kind 'kafka' is not allowed. Allowed kinds: "
        "inbody, zip, put, s3, azure_blob, google_cloud_storage, google_drive."
    )
    assert refusal(policy(allowed_target_types=["zip"]).check_targets, ["inbody"]) == (
        "Target kind 'inbody' is not allowed. Allowed kinds: zip."
    )


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("azure_blob", "azure"),
        ("google_cloud_storage", "gcloudstorage"),
        ("google_drive", "gdrive"),
    ],
)
def test_a_kind_whose_library_is_missing_names_its_extra(kind: str, extra: str) -> None:
    text = (
        f"kind '{kind}' cannot be used: the extra '{extra}' is not installed on this server "
        f"(pip install 'docling-serve[{extra}]')."
    )
    assert refusal(policy().check_targets, [kind]) == f"Target {text}"
    assert refusal(policy().check_sources, [kind], batch=True) == f"Source {text}"
    elsewhere = policy(eng_kind="rq")
    elsewhere.check_targets([kind])
    elsewhere.check_sources([kind], batch=True)


def test_a_missing_library_that_the_settings_need_is_told_at_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy(allowed_target_types=["inbody", "azure_blob"])
    assert "requests for azure_blob are refused: the extra 'azure' is not" in caplog.text
    with pytest.raises(ValueError, match="artifact_storage_backend: the extra 'azure' is not"):
        policy(artifact_storage_enabled=True, artifact_storage_backend="azure")


def test_kinds_beyond_the_schema_are_open_where_the_settings_name_them() -> None:
    deployment = policy(
        allowed_source_types=["http", "filenet", "databricks_volumes"],
        allowed_target_types=["inbody", "databricks_volumes"],
    )
    assert {"filenet", "databricks_volumes"} <= deployment.more.sources.keys()
    assert "local_path" not in deployment.more.sources.keys() | deployment.more.targets.keys()
    deployment.check_sources(["filenet"], batch=True)
    deployment.check_targets(["databricks_volumes"])
    deployment.check_pairing(["filenet"], ["databricks_volumes"])
    assert refusal(deployment.check_pairing, ["filenet"], ["inbody"]).startswith(
        "Source kind 'filenet' needs a storage target: "
    )
    assert policy().more.sources == {}, "nothing is imported for nothing"


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, "inbody"),
        ({"allowed_target_types": ["put", "zip"]}, "zip"),
        ({"artifact_storage_enabled": True}, "presigned_url"),
        ({"artifact_storage_enabled": True, "allowed_target_types": ["inbody"]}, "inbody"),
    ],
    ids=str,
)
def test_default_target(settings: dict[str, Any], kind: str) -> None:
    assert policy(**settings).default_target_kind() == kind


def test_default_target_of_chunks_and_of_storage_only() -> None:
    assert policy(artifact_storage_enabled=True).default_target_kind(chunk=True) == "inbody"
    storage_only = policy(allowed_target_types=["s3"])
    assert refusal(storage_only.default_target_kind) == "The request must name a target: s3."


def test_settings_narrow_the_sources_of_a_batch_only() -> None:
    deployment = policy(allowed_source_types=["s3"])
    deployment.check_sources(["file", "http"])
    deployment.check_sources(["s3"], batch=True)
    assert refusal(deployment.check_sources, ["http"], batch=True) == (
        "Source kind 'http' is not allowed. Allowed kinds: s3."
    )
    assert refusal(policy().check_sources, ["file"], batch=True) == (
        "Source kind 'file' is not allowed. Allowed kinds: "
        "http, s3, azure_blob, google_cloud_storage, google_drive."
    )


@pytest.mark.parametrize("setting", ["allowed_source_types", "allowed_target_types"])
def test_a_kind_that_does_not_exist_stops_the_start(setting: str) -> None:
    for kind in ("azure", "local_path"):
        with pytest.raises(ValueError, match=f"{setting}: {kind} is not available"):
            policy(**{setting: ["s3", kind]})


def test_sources_of_many_documents_need_a_storage_target() -> None:
    deployment = policy()
    deployment.check_pairing(["http"], [])
    deployment.check_pairing(["s3"], ["s3"])
    for targets in ([], ["zip"], ["s3", "inbody"]):
        assert refusal(deployment.check_pairing, ["http", "s3"], targets).startswith(
            "Source kind 's3' needs a storage target: s3, azure_blob, "
        )


def test_a_policy_cannot_be_changed() -> None:
    deployment = policy()
    with pytest.raises(dataclasses.FrozenInstanceError):
        deployment.max_sources = 9  # type: ignore[misc]
    with pytest.raises(TypeError):
        deployment.stages["ocr"].presets["mine"] = None  # type: ignore[index]


def test_image_export_modes_are_those_of_docling_by_default() -> None:
    modes = [mode.value for mode in policy().image_export_modes()]
    assert modes == ["placeholder", "embedded", "referenced"]


def test_it_reads_the_installation_by_default() -> None:
    from docling_serve.settings import DoclingServeSettings

    deployment = ServicePolicy.from_settings(DoclingServeSettings.model_construct())
    assert "docling_layout_default" in (deployment.stages["layout"].implementations or ())
    assert "full_page" not in (deployment.stages["layout"].implementations or ())


def test_the_policy_is_made_without_torch() -> None:
    program = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None
from docling_serve.policy import ServicePolicy
from docling_serve.settings import DoclingServeSettings
settings = DoclingServeSettings.model_construct(allow_external_plugins=True)
policy = ServicePolicy.from_settings(settings)
print(policy.stages["layout"].implementations, policy.stages["layout"].open)

# What docling's own factories register is what this package reads from the option classes.
from docling.models.factories import get_layout_factory, get_ocr_factory
for name, factory in (("ocr", get_ocr_factory), ("layout", get_layout_factory)):
    registered = set(factory(allow_external_plugins=True).registered_kind)
    assert registered == set(policy.stages[name].implementations), (name, registered)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'full_page'" in done.stdout
    assert "False" in done.stdout


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("allowed_ocr_presets", "rapid"),
        ("allowed_ocr_kinds", "rapid"),
        ("allowed_layout_presets", "egret"),
        ("allowed_table_structure_presets", "fast"),
        ("allowed_vlm_presets", "granite"),
        ("allowed_vlm_engines", "ollama"),
        ("allowed_picture_classification_presets", "x"),
        ("allowed_chunking_presets", "minilm"),
        ("allowed_image_export_modes", "png"),
    ],
)
def test_a_name_that_does_not_exist_is_told_at_the_start(
    setting: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    policy(**{setting: [name]})
    assert f"{setting}: there is no '{name}'" in caplog.text


def test_names_of_custom_presets_are_known(caplog: pytest.LogCaptureFixture) -> None:
    policy(allowed_ocr_presets=["auto", "mine"], custom_ocr_presets={"mine": {"kind": "rapidocr"}})
    assert "there is no" not in caplog.text
