"""A converter per request, default options made once, and how presets are read."""

from __future__ import annotations

import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from docling.datamodel.base_models import DocumentStream, InputFormat
from docling.datamodel.service.chunking import HierarchicalChunkerOptions
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling_jobkit.convert.manager import DoclingConverterManager, DoclingConverterManagerConfig

from docling_serve.conversion.conversion import Conversion
from docling_serve.conversion.converters import Converters, default_format_options
from docling_serve.conversion.model_sets import ConverterStats
from docling_serve.errors import TaskFailed
from docling_serve.internals.jobkit_manager import ConverterManager
from docling_serve.jobs.spec import JobSpec, StagedFile, TaskFolder
from tests.helpers.documents import blank_pdf

NO_WEIGHTS: dict[str, Any] = {
    "allow_external_plugins": True,
    "default_layout_preset": "full_page",
    "default_layout_kind": "full_page",
    "default_table_structure_preset": "none",
    "default_table_structure_kind": "none",
    "custom_table_structure_presets": {"none": {"kind": "none"}},
}
CLASSIFIER = {
    "engine_options": {"engine_type": "transformers"},
    "model_spec": {"name": "mine", "repo_id": "someone/model"},
}


def manager(**config: Any) -> ConverterManager:
    return ConverterManager(DoclingConverterManagerConfig(**config))


def converters(**config: Any) -> Converters:
    return Converters(manager(**NO_WEIGHTS, **config))


def pipeline_options(manager_: ConverterManager, request: ConvertDocumentsOptions) -> Any:
    return manager_.get_pdf_pipeline_opts(request).pipeline_options


def options(**fields: Any) -> ConvertDocumentsOptions:
    return ConvertDocumentsOptions(do_ocr=False, **fields)


def document(name: str, content: bytes) -> DocumentStream:
    return DocumentStream(name=name, stream=BytesIO(content))


def job(tmp_path: Path, name: str, content: bytes, **fields: Any) -> tuple[JobSpec, TaskFolder]:
    folder = TaskFolder.create(tmp_path, "task")
    folder.input(0).write_bytes(content)
    source = StagedFile(path="input/0", filename=name)
    return JobSpec(task_id="task", sources=[source], options=fields), folder


def unguarded(option: Any) -> dict[str, Any]:
    """The fields of a format's options, with docling's reader in place of the one that checks."""
    (backend,) = option.backend.__bases__
    return {**vars(option), "backend": backend}


def test_default_options_are_made_once_and_without_threads() -> None:
    threads = threading.active_count()
    defaults = default_format_options()
    assert default_format_options() is defaults
    assert set(defaults) == set(InputFormat)
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    "request_options",
    [
        options(),
        options(include_images=False, include_page_images=True, images_scale=3.0),
        options(pdf_backend="pypdfium2", document_timeout=7.0),
        ConvertDocumentsOptions(pipeline="vlm"),
    ],
    ids=["plain", "page images", "backend", "vlm"],
)
def test_every_format_gets_the_options_that_docling_jobkit_gives_it(
    request_options: ConvertDocumentsOptions,
) -> None:
    ours = manager(**NO_WEIGHTS)
    jobkits = DoclingConverterManager(DoclingConverterManagerConfig(**NO_WEIGHTS))
    expected = jobkits.get_converter(jobkits.get_pdf_pipeline_opts(request_options))
    got = Converters(ours).converter(request_options).format_to_options
    different = {
        format_
        for format_, option in expected.format_to_options.items()
        if unguarded(got[format_]) != vars(option)
    }
    assert got.keys() == expected.format_to_options.keys()
    # There docling's defaults are taken, whatever the request says.
    by_design = set() if request_options.pipeline.value == "vlm" else {InputFormat.METS_GBS}
    assert different == by_design


def test_formats_without_options_of_their_own_share_the_defaults() -> None:
    converter = converters().converter(options())
    defaults = default_format_options()
    ours, theirs = converter.format_to_options, defaults
    assert ours[InputFormat.MD].pipeline_options is theirs[InputFormat.MD].pipeline_options
    assert ours[InputFormat.DOCX].pipeline_options is not theirs[InputFormat.DOCX].pipeline_options


def test_threads_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    default_format_options()  # as in a fork template, before the worker's limits are known
    monkeypatch.setenv("DOCLING_NUM_THREADS", "3")
    audio = converters().converter(options()).format_to_options[InputFormat.AUDIO]
    assert audio.pipeline_options is not None
    assert audio.pipeline_options.accelerator_options.num_threads == 3


def test_markdown_needs_no_model() -> None:
    shared = converters()
    result = shared.converter(options()).convert(document("a.md", b"# Title"))
    assert result.document.export_to_markdown() == "# Title"
    assert not shared.holds_models
    assert shared.stats == ConverterStats()


def test_a_request_counts_once_whatever_its_number_of_documents() -> None:
    shared = converters()
    for scale in (1.0, 2.0):
        converter = shared.converter(options(images_scale=scale))
        for number in range(3):
            converter.convert(document(f"{number}.pdf", blank_pdf()))
        converter.convert(document("a.md", b"text"))
    assert shared.stats == ConverterStats(hits=1, misses=1, model_sets=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"document_timeout": 60.0},
        {"images_scale": 1.0},
        {"include_images": False},
        {"include_page_images": True},
        {"page_range": (1, 1)},
        {"to_formats": ["json", "text"]},
        {"image_export_mode": "placeholder"},
        {"do_pdf_heading_hierarchy": True},
        {"pdf_backend": "pypdfium2"},
        {"chunking_preset": "hierarchical"},
        {"abort_on_error": True},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_request_option_that_changes_no_model_makes_no_other_set(fields: dict[str, Any]) -> None:
    shared = converters()
    for request in (options(), options(**fields)):
        shared.converter(request).initialize_pipeline(InputFormat.PDF)
    assert shared.stats == ConverterStats(hits=1, misses=1, model_sets=1)


def test_the_cache_size_bounds_the_sets() -> None:
    shared = converters(
        options_cache_size=2,
        custom_layout_presets={
            name: {"kind": "full_page", "keep_empty_clusters": keep, "skip_cell_assignment": skip}
            for name, keep, skip in (("a", True, True), ("b", True, False), ("c", False, True))
        },
    )
    for preset in ("a", "b", "c", "a", "c"):
        request = options(layout_preset=preset)
        shared.converter(request).initialize_pipeline(InputFormat.PDF)
    assert shared.stats == ConverterStats(hits=1, misses=4, model_sets=2)
    shared.clear()
    assert not shared.holds_models
    assert shared.stats == ConverterStats(hits=1, misses=4, model_sets=0)


def test_one_converter_gives_pdfs_and_images_the_same_pipeline() -> None:
    converter = converters().converter(options())
    pdf = converter._get_pipeline(InputFormat.PDF)
    assert pdf is not None
    assert converter._get_pipeline(InputFormat.IMAGE) is pdf
    assert converter._get_pipeline(InputFormat.METS_GBS) is pdf


def test_a_custom_layout_preset_works_as_the_default() -> None:
    preset = {"kind": "docling_layout_default", "keep_empty_clusters": True}
    ours = manager(default_layout_preset="mine", custom_layout_presets={"mine": preset})
    for request in (options(), options(layout_preset="default"), options(layout_preset="mine")):
        layout = pipeline_options(ours, request).layout_options
        assert layout.keep_empty_clusters


def test_a_custom_ocr_preset_works_as_the_default() -> None:
    preset = {"kind": "rapidocr", "text_score": 0.9}
    ours = manager(default_ocr_preset="mine", custom_ocr_presets={"mine": preset})
    request = ConvertDocumentsOptions(ocr_preset="default")
    assert pipeline_options(ours, request).ocr_options.text_score == 0.9


def test_a_custom_picture_classification_preset_works_as_the_default() -> None:
    ours = manager(
        default_picture_classification_preset="mine",
        custom_picture_classification_presets={"mine": CLASSIFIER},
    )
    pipeline = pipeline_options(ours, options(do_picture_classification=True))
    assert pipeline.picture_classification_options.model_spec.repo_id == "someone/model"


def test_a_custom_picture_classification_config_is_validated() -> None:
    ours = manager(allow_custom_picture_classification_config=True)
    request = options(
        do_picture_classification=True, picture_classification_custom_config=CLASSIFIER
    )
    pipeline = pipeline_options(ours, request)
    assert pipeline.picture_classification_options.model_spec.repo_id == "someone/model"


def test_a_custom_chunking_preset_works_by_name_and_as_the_default() -> None:
    preset = {"chunker": "hierarchical", "include_raw_text": True}
    ours = manager(default_chunking_preset="mine", custom_chunking_presets={"mine": preset})
    for request in (options(), options(chunking_preset="mine")):
        chunking = ours.parse_chunking_options(request)
        assert isinstance(chunking, HierarchicalChunkerOptions)
        assert chunking.include_raw_text


def test_docling_s_own_presets_stay_defaults() -> None:
    ours = manager(custom_layout_presets={"mine": {"kind": "docling_layout_default"}})
    assert ours.layout_preset_registry["default"] == {
        "source": "docling",
        "preset_id": "docling_layout_default",
    }


@pytest.mark.parametrize("pipeline", ["legacy", "native", "asr"])
def test_a_pipeline_that_is_not_supported_is_refused_as_such(pipeline: str, tmp_path: Path) -> None:
    spec, folder = job(tmp_path, "a.md", b"text", pipeline=pipeline)
    with pytest.raises(TaskFailed) as failed:
        Conversion(NO_WEIGHTS).run(spec, folder)
    failure = failed.value.failure
    assert failure.category == "policy"
    assert not failure.retryable
    assert "pipeline" in failure.message
    assert pipeline in failure.message.lower()
    assert "is not implemented" in failure.message


def test_a_conversion_tells_what_it_holds(tmp_path: Path) -> None:
    conversion = Conversion(NO_WEIGHTS)
    assert (conversion.holds_models, conversion.stats) == (False, ConverterStats())
    spec, folder = job(tmp_path, "a.pdf", blank_pdf(), do_ocr=False)
    conversion.run(spec, folder)
    assert (conversion.holds_models, conversion.stats) == (False, ConverterStats(0, 1, 1)), (
        "the stages of our plugin have no weights"
    )
    spec, folder = job(tmp_path / "ocr", "b.pdf", blank_pdf(), do_ocr=True)
    conversion.run(spec, folder)
    assert (conversion.holds_models, conversion.stats) == (True, ConverterStats(0, 2, 2))
    conversion.clear()
    assert (conversion.holds_models, conversion.stats) == (False, ConverterStats(0, 2, 0))
