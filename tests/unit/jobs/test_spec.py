from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from docling_serve.errors import TaskNotTransferable
from docling_serve.jobs.needs import MODEL_FREE_SUFFIXES, may_need_models, model_kind
from docling_serve.jobs.spec import (
    ConnectorSource,
    JobResult,
    JobSpec,
    RemoteUrl,
    StagedFile,
    TaskFolder,
    display_name,
)

TASK: dict[str, Any] = {
    "task_id": "0b8e-1",
    "sources": [
        {"kind": "file", "path": "input/0", "filename": "名.pdf"},
        {"kind": "http", "url": "https://example.com/a.pdf", "headers": {"X-A": "1"}},
        {"kind": "connector", "config": {"kind": "s3", "bucket": "b"}},
    ],
    "options": {"to_formats": ["md"], "page_range": [1, 3], "images_scale": 2.0},
}
RESULT = JobResult(body="result.body", media_type="application/json", processing_time=1.0)


class _Model(BaseModel):
    value: int = 1


# ---- JobSpec -------------------------------------------------------------------------------------


def test_a_task_of_plain_data_becomes_a_job() -> None:
    spec = JobSpec.from_task_dict(TASK)

    assert spec.sources == [
        StagedFile(path="input/0", filename="名.pdf"),
        RemoteUrl(url="https://example.com/a.pdf", headers={"X-A": "1"}),
        ConnectorSource(config={"kind": "s3", "bucket": "b"}),
    ]
    assert spec.targets == [{"kind": "inbody"}]
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_dumped_job_is_a_task_again() -> None:
    spec = JobSpec.from_task_dict(TASK)

    assert JobSpec.from_task_dict(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"sources": [io.BytesIO(b"x")]}, "sources.0", "BytesIO is not plain data"),
        ({"options": {"a": [1, {"b": object()}]}}, "options.a.1.b", "object is not plain data"),
        ({"options": {"raw": b"bytes"}}, "options.raw", "bytes is not plain data"),
        ({"options": {"formats": {"md"}}}, "options.formats", "set is not plain data"),
        ({"options": _Model()}, "options", "_Model is not plain data"),
        ({"options": {"path": Path("/tmp")}}, "options.path", "PosixPath is not plain data"),
        ({"options": {1: "one"}}, "options.1", "keys must be text"),
        ({7: 1}, "task.7", "keys must be text"),
        ({"unheard_of": 1}, "unheard_of", "Extra inputs"),
        ({"task_type": "transmute"}, "task_type", "'convert' or 'chunk'"),
        ({"task_id": ""}, "task_id", "at least 1 character"),
        ({"task_id": "../up"}, "task_id", "pattern"),
        ({"task_id": "a/b"}, "task_id", "pattern"),
        ({"task_id": None}, "task_id", "valid string"),
        ({"sources": "a.pdf"}, "sources", "valid list"),
        ({"sources": [{"kind": "file", "path": "p"}]}, "sources.0.file.filename", "required"),
        ({"sources": [{"kind": "carrier-pigeon"}]}, "sources.0", "expected tags"),
        ({"sources": [{"path": "p"}]}, "sources.0", "discriminator"),
        ({"include_converted_doc": "perhaps"}, "include_converted_doc", "boolean"),
        (
            {"sources": [{"kind": "file", "path": "p", "filename": "\udcff.pdf"}]},
            "sources.0.filename",
            "Unicode",
        ),
    ],
)
def test_what_cannot_be_handed_over_is_refused_by_name(
    change: dict[Any, Any], field: str, reason: str
) -> None:
    with pytest.raises(TaskNotTransferable) as refusal:
        JobSpec.from_task_dict({**TASK, **change})

    assert refusal.value.field == field
    assert reason in refusal.value.reason
    assert field in str(refusal.value)


@pytest.mark.parametrize("missing", ["task_id", "sources"])
def test_what_is_missing_is_named(missing: str) -> None:
    with pytest.raises(TaskNotTransferable) as refusal:
        JobSpec.from_task_dict({k: v for k, v in TASK.items() if k != missing})

    assert refusal.value.field == missing


def test_a_refusal_does_not_repeat_a_value() -> None:
    with pytest.raises(TaskNotTransferable) as refusal:
        JobSpec.from_task_dict({**TASK, "include_converted_doc": "s3cret"})

    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_not_turned_into_none(number: float) -> None:
    """Either it is refused by name, or it comes back as it was."""
    try:
        spec = JobSpec.from_task_dict({**TASK, "options": {"images_scale": number}})
    except TaskNotTransferable as refusal:
        came_back = refusal.field
    else:
        came_back = str(JobSpec.model_validate_json(spec.model_dump_json()).options["images_scale"])

    assert came_back in ("options.images_scale", str(number))


def test_a_job_does_not_change() -> None:
    spec = JobSpec.from_task_dict(TASK)
    with pytest.raises(ValidationError):
        spec.task_id = "other"  # type: ignore[misc]


# ---- the folder ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> TaskFolder:
    return TaskFolder.create(tmp_path / "scratch", "task-1")


def test_only_this_user_can_read_a_task(folder: TaskFolder) -> None:
    folder.write_job(JobSpec.from_task_dict(TASK))

    assert folder.root.stat().st_mode & 0o777 == 0o700
    assert folder.input(0).parent.stat().st_mode & 0o777 == 0o700
    assert folder.job_file.stat().st_mode & 0o777 == 0o600


def test_a_job_is_read_back_as_it_was_written(folder: TaskFolder) -> None:
    spec = JobSpec.from_task_dict(TASK)
    folder.write_job(spec)

    assert folder.read_job() == spec


def test_two_tasks_cannot_have_one_folder(folder: TaskFolder) -> None:
    with pytest.raises(FileExistsError):
        TaskFolder.create(folder.root.parent, "task-1")


def test_the_reply_is_a_file_of_the_task(folder: TaskFolder) -> None:
    folder.body.write_bytes(b"reply")

    assert folder.result_file(RESULT) == folder.body


@pytest.mark.parametrize(
    "name",
    ["missing", "work", "../other", "../task-1/result.body", "work/inner", "", ".", "..", "a\0b"],
)
def test_any_other_name_is_refused(folder: TaskFolder, name: str) -> None:
    folder.work.mkdir()
    (folder.work / "inner").touch()
    (folder.root.parent / "other").touch()
    folder.body.touch()

    with pytest.raises(ValueError, match="not a result file"):
        folder.result_file(RESULT.model_copy(update={"body": name}))


def test_an_absolute_name_is_refused(folder: TaskFolder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()

    with pytest.raises(ValueError, match="not a result file"):
        folder.result_file(RESULT.model_copy(update={"body": str(elsewhere)}))


@pytest.mark.parametrize("inside", [True, False])
def test_a_link_is_refused_wherever_it_leads(
    folder: TaskFolder, tmp_path: Path, inside: bool
) -> None:
    target = (folder.root if inside else tmp_path) / "target"
    target.touch()
    folder.body.symlink_to(target)

    with pytest.raises(ValueError, match="not a result file"):
        folder.result_file(RESULT)


def test_after_the_end_only_the_reply_is_kept(folder: TaskFolder) -> None:
    folder.write_job(JobSpec.from_task_dict(TASK))
    folder.input(0).write_bytes(b"document")
    folder.work.mkdir()
    (folder.work / "page.png").touch()
    TaskFolder.create(folder.parts, "0").write_job(JobSpec.from_task_dict(TASK))
    folder.body.write_bytes(b"reply")

    folder.drop_inputs()

    assert list(folder.root.iterdir()) == [folder.body]


def test_dropping_and_removing_twice_is_no_error(folder: TaskFolder) -> None:
    for _ in range(2):
        folder.drop_inputs()
    for _ in range(2):
        folder.remove()

    assert not folder.root.exists()


# ---- models --------------------------------------------------------------------------------------


def _job(*names: str, **options: Any) -> JobSpec:
    sources = [StagedFile(path=f"input/{i}", filename=name) for i, name in enumerate(names)]
    return JobSpec(task_id="t", sources=list(sources), options=options)


@pytest.mark.parametrize("name", ["a.md", "A.DOCX", "b.html", "c.xlsx", "d.csv", "e.adoc"])
def test_documents_that_need_no_models(name: str, folder: TaskFolder) -> None:
    assert not may_need_models(_job(name), folder)
    assert not may_need_models(_job("first.md", name), folder)


@pytest.mark.parametrize(
    "name", ["a.pdf", "a.PNG", "a.jpeg", "a.tiff", "a.wav", "a.mp3", "a", "a.xyz", ".md"]
)
def test_documents_that_may_need_them(name: str, folder: TaskFolder) -> None:
    assert may_need_models(_job(name), folder)
    assert may_need_models(_job("first.md", name), folder)


@pytest.mark.parametrize(
    ("content", "may"),
    [
        (b"%PDF-1.7 ...", True),
        (b"\xef\xbb\xbf\n%PDF-1.4", True),
        (b"\x89PNG\r\n\x1a\n...", True),
        (b"\xff\xd8\xff\xe0 JFIF", True),
        (b"# A title", False),
        (b"PK\x03\x04 docx", False),
        (b"", False),
    ],
)
def test_what_is_in_a_file_goes_before_its_name(
    content: bytes, may: bool, folder: TaskFolder
) -> None:
    folder.input(0).write_bytes(content)
    assert may_need_models(_job("a.txt"), folder) is may


@pytest.mark.parametrize(
    "option", ["do_picture_description", "do_picture_classification", "do_chart_extraction"]
)
def test_looking_into_pictures_may_need_them(option: str, folder: TaskFolder) -> None:
    assert may_need_models(_job("a.docx", **{option: True}), folder)
    assert not may_need_models(_job("a.docx", **{option: False}), folder)


def test_what_is_fetched_may_need_them(folder: TaskFolder) -> None:
    spec = JobSpec(task_id="t", sources=[RemoteUrl(url="https://example.com/a.md")])

    assert may_need_models(spec, folder)


def test_suffixes_are_written_as_they_are_compared() -> None:
    assert all(
        suffix == suffix.lower() and suffix.startswith(".") for suffix in MODEL_FREE_SUFFIXES
    )


def test_jobs_that_load_the_same_models_are_of_one_kind() -> None:
    one = _job("a.pdf", do_ocr=True, to_formats=["md"], page_range=[1, 2])
    other = _job("b.pdf", to_formats=["json"], do_ocr=True)

    assert model_kind(one) == model_kind(other)


def test_jobs_that_load_others_are_not() -> None:
    kinds = {
        model_kind(_job("a.pdf", **options))
        for options in ({}, {"do_ocr": False}, {"ocr_preset": "rapidocr"}, {"pipeline": "vlm"})
    }

    assert len(kinds) == 4


def test_another_job_takes_the_place_of_one_that_is_there(tmp_path: Path) -> None:
    """As a new file: a kill in mid-write spoils neither."""
    folder = TaskFolder.create(tmp_path, "task-1")
    spec = JobSpec.from_task_dict(TASK)
    folder.write_job(spec)
    before = folder.job_file.stat()

    other = spec.model_copy(update={"debug_error_details": not spec.debug_error_details})
    folder.write_job(other)
    assert folder.job_file.stat().st_ino != before.st_ino, "a new file in its place"
    assert folder.read_job() == other
    assert sorted(path.name for path in folder.root.iterdir()) == ["input", "job.json"]


def test_what_a_cut_off_attempt_left_is_removed(tmp_path: Path) -> None:
    folder = TaskFolder.create(tmp_path, "task-1")
    folder.write_job(JobSpec.from_task_dict(TASK))
    folder.input(0).write_text("# a")
    TaskFolder.create(folder.root / "parts", "0")
    folder.body.write_text("half a reply")
    (folder.root / "job.json.aside").write_text("{")

    folder.drop_attempt()

    assert sorted(path.name for path in folder.root.rglob("*")) == ["0", "input", "job.json"]


# ---- the names under which documents are shown ---------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.md", "a.md"),
        ("dir/a.md", "a.md"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.docx", "a.docx"),
        ("名 前.pdf", "名 前.pdf"),
        (".hidden", ".hidden"),
        ("a.tar.gz", "a.tar.gz"),
        ("dir/", "dir"),
        ("", "document"),
        ("/", "document"),
        ("\\", "document"),
    ],
)
def test_a_name_is_shown_without_its_folders(name: str, shown: str) -> None:
    assert display_name(name) == shown


@pytest.mark.parametrize("name", ["..", "a/..", "."])
def test_a_name_that_is_no_file_is_not_shown(name: str) -> None:
    assert display_name(name) not in {".", ".."}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\0b.md", "ab.md"),
        ("new\nline\t.md", "newline.md"),
        ("\0", "document"),
        ("x" * 5000 + ".md", "x" * 197 + ".md"),
        ("ü" * 300 + ".md", "ü" * 98 + ".md"),
        ("x" * 247 + ".md", "x" * 247 + ".md"),
        ("x" * 248 + ".md", "x" * 197 + ".md"),
        ("." + "x" * 300, "." + "x" * 199),
        ("a." + "x" * 300, "a." + "x" * 198),
    ],
)
def test_a_name_is_good_for_a_file_of_the_result(name: str, shown: str) -> None:
    assert display_name(name) == shown
    assert len(display_name(name).encode()) <= 250
