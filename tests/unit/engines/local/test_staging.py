from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from docling.datamodel.service.callbacks import CallbackSpec
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.sources import FileSource, HttpSource, S3Coordinates
from docling.datamodel.service.targets import ZipTarget
from docling.datamodel.service.tasks import TaskType
from docling_jobkit.datamodel.chunking import HierarchicalChunkerOptions

from docling_serve.engines.base import Upload
from docling_serve.engines.local.disk import Disk
from docling_serve.engines.local.staging import Deployment, stage
from docling_serve.jobs.spec import ConnectorSource, JobSpec, RemoteUrl, StagedFile, TaskFolder
from tests.unit.engines.hand_runner import submission


@pytest.fixture
def folder(tmp_path: Path) -> TaskFolder:
    return TaskFolder.create(tmp_path, "task-1")


def staged(folder: TaskFolder, **more: Any) -> JobSpec:
    deployment = Deployment({"a": 1})
    spec = stage(submission(**more), "task-1", folder, deployment, Disk(sync=True)).spec
    assert folder.read_job() == spec
    return spec


def test_uploads_are_named_by_their_position(folder: TaskFolder) -> None:
    uploads = [Upload(name, io.BytesIO(name.encode())) for name in ("../a.md", "a.md")]
    spec = staged(folder, sources=uploads)

    assert spec.sources == [
        StagedFile(path="input/0", filename="a.md"),
        StagedFile(path="input/1", filename="a.md"),
    ]
    assert folder.input(0).read_bytes() == b"../a.md"
    assert folder.input(1).read_bytes() == b"a.md"
    assert sorted(path.name for path in folder.root.iterdir()) == ["input", "job.json"]


def test_only_this_user_reads_an_upload(folder: TaskFolder) -> None:
    staged(folder)

    assert folder.input(0).stat().st_mode & 0o777 == 0o600


def test_a_large_upload_is_copied_whole(folder: TaskFolder) -> None:
    content = bytes(range(256)) * 10_000
    staged(folder, text=content)

    assert folder.input(0).read_bytes() == content


def test_an_empty_upload_is_a_document_too(folder: TaskFolder) -> None:
    staged(folder, text=b"")

    assert folder.input(0).read_bytes() == b""


def test_a_name_that_is_no_text_does_not_keep_a_task_from_being_staged(folder: TaskFolder) -> None:
    """JSON may carry half a surrogate pair; Python reads it, UTF-8 cannot have it."""
    spec = staged(folder, name="\udcff.md")

    (source,) = spec.sources
    assert isinstance(source, StagedFile)
    assert source.filename.endswith(".md")


def test_an_address_keeps_its_own_headers(folder: TaskFolder) -> None:
    sources = [
        HttpSource(url="https://example.com/a.pdf", headers={"X-A": "1"}),
        HttpSource(url="https://example.org/b.pdf"),
    ]

    assert staged(folder, sources=sources).sources == [
        RemoteUrl(url="https://example.com/a.pdf", headers={"X-A": "1"}),
        RemoteUrl(url="https://example.org/b.pdf"),
    ]


def test_other_sources_keep_their_secrets_for_the_worker(folder: TaskFolder) -> None:
    source = S3Coordinates(
        endpoint="s3.example.com", bucket="b", access_key="key", secret_key="s3cret"
    )
    (staged_source,) = staged(folder, sources=[source]).sources

    assert isinstance(staged_source, ConnectorSource)
    assert staged_source.config["secret_key"] == "s3cret"
    assert folder.job_file.stat().st_mode & 0o777 == 0o600


def test_a_base64_source_is_a_mistake_of_ours(folder: TaskFolder) -> None:
    with pytest.raises(TypeError, match="decoded before"):
        staged(folder, sources=[FileSource(base64_string="aGk=", filename="a.md")])


def test_everything_else_is_plain_data(folder: TaskFolder) -> None:
    spec = staged(
        folder,
        options=ConvertDocumentsOptions(do_ocr=False, page_range=(2, 3)),
        targets=[ZipTarget()],
        task_type=TaskType.CHUNK,
        chunking_options=HierarchicalChunkerOptions(),
        include_converted_doc=True,
        callbacks=[CallbackSpec(url="https://example.com/hook", headers={"X-A": "1"})],
        target_document_version="1.8.0",
    )

    assert spec.options["do_ocr"] is False
    assert spec.options["page_range"] == [2, 3]
    assert spec.targets == [{"kind": "zip"}]
    assert spec.task_type == "chunk"
    assert spec.chunking_options is not None
    assert spec.chunking_options["chunker"] == "hierarchical"
    assert spec.include_converted_doc
    assert spec.callbacks == [
        {"url": "https://example.com/hook", "headers": {"X-A": "1"}, "ca_cert": ""}
    ]
    assert spec.target_document_version == "1.8.0"
    assert spec.converter_config == {"a": 1}


def test_options_survive_the_way_to_the_worker(folder: TaskFolder) -> None:
    options = ConvertDocumentsOptions(images_scale=1.5, document_timeout=30.0)
    spec = staged(folder, options=options)

    assert ConvertDocumentsOptions.model_validate(spec.options) == options


def test_a_staged_document_is_never_written_over(folder: TaskFolder) -> None:
    folder.input(0).write_bytes(b"first")

    with pytest.raises(FileExistsError):
        staged(folder)
    assert folder.input(0).read_bytes() == b"first"
