"""Convert the documents of one job with docling and write the reply to the task's folder.

With ``converters``, the only module that touches docling's converters and models. It runs in a
worker process, or in a thread of the server when subprocess mode is off, and does not know which.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from docling.datamodel.base_models import DocumentStream
from docling.datamodel.progress import (
    ConversionPhase,
)
from docling.datamodel.service.chunking import HybridChunkerOptions
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.tasks import TaskType
from docling_core.types.doc.document import DoclingDocument
from docling_jobkit.config.target_config import PresignedConfig
from docling_jobkit.connectors.connector_factory import (
    get_source_connector_factory,
    get_target_connector_factory,
)
from docling_jobkit.connectors.source_processor_factory import get_source_processor
from docling_jobkit.convert.chunking import DocumentChunkerManager, process_chunkable_results
from docling_jobkit.convert.manager import DoclingConverterManagerConfig
from docling_jobkit.convert.results import process_exportable_results
from docling_jobkit.datamodel.exportable_document import project_document_dict
from docling_jobkit.datamodel.task import Task, validate_task
from pydantic import TypeAdapter

from docling_serve.conversion.converters import Converters
from docling_serve.conversion.documents import ConvertAll, converted, exportable, opened
from docling_serve.conversion.exhaustion import raise_if_memory_ran_out
from docling_serve.conversion.failures import (
    NOTHING_EXPORTED,
    ChunkerNotReady,
    ModelsNotReady,
    NothingExported,
    describe_failure,
)
from docling_serve.conversion.input_limits import InputLimits
from docling_serve.conversion.model_sets import ConverterStats
from docling_serve.conversion.parts import adaptation, page_counts, page_range
from docling_serve.conversion.reports import (
    CallbackRelay,
    OnCallbackDue,
    OnProgress,
    ProgressTracker,
)
from docling_serve.errors import TaskFailed
from docling_serve.internals.docling_pages import dump_slice
from docling_serve.internals.jobkit_manager import ConverterManager
from docling_serve.internals.onnx_sessions import onnx_use
from docling_serve.jobs.rendering import JSON, Rendered, pack, render
from docling_serve.jobs.spec import (
    CountPages,
    JobResult,
    JobSpec,
    MergeSlices,
    PageSlice,
    RemoteUrl,
    StagedFile,
    TaskFolder,
)

if TYPE_CHECKING:
    from docling.datamodel.document import ConversionResult
    from docling_jobkit.datamodel.result import DoclingTaskResult

_log = logging.getLogger(__name__)

#: Targets whose results are one archive when there are several documents.
_ONE_ARCHIVE = frozenset({"inbody", "zip", "put"})

_PRESIGNED: TypeAdapter[PresignedConfig | None] = TypeAdapter(PresignedConfig | None)


class Conversion:
    """Docling, set up once for one converter configuration and used for many jobs.

    Jobs may run in several threads at once; they share the loaded models.
    """

    def __init__(self, converter_config: dict[str, Any]) -> None:
        config = DoclingConverterManagerConfig.model_validate(converter_config)
        self._limits = InputLimits.model_validate(converter_config)
        self._manager = ConverterManager(config)
        self._converters = Converters(self._manager, self._limits)
        self._chunkers = DocumentChunkerManager()

    @property
    def holds_models(self) -> bool:
        """Whether a pipeline that may hold model weights has been built."""
        return self._converters.holds_models

    @property
    def stats(self) -> ConverterStats:
        """How often the models of a job were already loaded."""
        return self._converters.stats

    def may_use_gpu(self, spec: JobSpec) -> bool:
        """Whether the job can use CUDA, if there is a GPU. Loads nothing; raises on invalid
        options."""
        options = self._task(spec).convert_options or ConvertDocumentsOptions()
        return self._converters.may_use_gpu(options)

    def warm_up(self) -> None:
        """Load the models of a conversion with default options.

        Raises:
            TaskFailed: naming the model that is missing.
        """
        try:
            self._converters.warm_up()
        except Exception as exc:
            raise TaskFailed(describe_failure(ModelsNotReady(exc))) from exc

    def rehearse(self) -> None:
        """Convert a line of Markdown in memory, which does the set-up of a first conversion.

        Loads no model and touches no file.
        """
        note = DocumentStream(name="rehearsal.md", stream=io.BytesIO(b"# Rehearsal\n\nA line.\n"))
        converted_note = self._converters.converter(ConvertDocumentsOptions()).convert(note)
        converted_note.document.export_to_markdown()
        get_target_connector_factory(
            allow_external_plugins=self._manager.config.allow_external_plugins
        )

    def clear(self) -> None:
        """Drop all loaded pipelines."""
        self._converters.clear()
        self._chunkers.clear_cache()  # type: ignore[no-untyped-call]

    def run(
        self,
        spec: JobSpec,
        folder: TaskFolder,
        on_progress: OnProgress = lambda _: None,
        on_callback: OnCallbackDue = lambda _: None,
    ) -> JobResult:
        """Convert, render, and write ``result.body`` into ``folder``.

        ``on_progress`` is called from the converting thread at each phase and page.

        Raises:
            TaskFailed: with a failure whose text may be shown to the client.
        """
        tracker = ProgressTracker(on_progress, num_docs=len(spec.sources))
        try:
            return self._run(spec, folder, tracker, on_callback)
        except Exception as exc:
            _log.exception("task %s failed while %s", spec.task_id, tracker.phase)
            if str(exc) == NOTHING_EXPORTED:
                exc = NothingExported([] if tracker.converted else tracker.complaints)
            elif tracker.phase == ConversionPhase.INITIALIZE.value:
                exc = ModelsNotReady(exc)
            raise TaskFailed(describe_failure(exc, debug=spec.debug_error_details)) from exc

    def _run(
        self,
        spec: JobSpec,
        folder: TaskFolder,
        tracker: ProgressTracker,
        on_callback: OnCallbackDue,
    ) -> JobResult:
        started = time.monotonic()
        if isinstance(spec.part, CountPages):
            return _left(folder, page_counts(spec, folder, self._limits.max_pages_to_open), started)
        if isinstance(spec.part, MergeSlices):
            started -= spec.part.elapsed_s
        folder.work.mkdir(mode=0o700, exist_ok=True)
        task = self._task(spec)
        options = task.convert_options or ConvertDocumentsOptions()
        config = self._manager.config
        chunking_options = self._manager.parse_chunking_options(options)
        self._require_chunker(task)
        sources = self._sources(spec)
        # Pipelines are built when a document needs one, so a Markdown file loads no PDF models.
        convert = self._convert_all(spec, options, folder, tracker)
        if isinstance(spec.part, PageSlice):
            (result,) = convert([opened(sources[0], folder)])
            raise_if_memory_ran_out(result.errors)
            tracker.look_at(result)
            return _left(folder, dump_slice(result), started, ocr_ran=tracker.ocr_ran)
        abort = options.abort_on_error
        formats = options.from_formats
        results = converted(sources, convert, folder, tracker, abort, self._limits, formats)
        documents = exportable(results, spec.target_document_version, _one_archive(spec))
        relay = CallbackRelay(on_callback) if task.callbacks else None
        if spec.task_type == "chunk":
            outcome = process_chunkable_results(
                task=task,
                exportable_documents=documents,
                work_dir=folder.work,
                chunker_manager=self._chunkers,
                callback_invoker=relay,  # type: ignore[arg-type]  # same method, other transport
                debug_error_details=spec.debug_error_details,
                expected_doc_count=len(sources),
                start_time=started,
            )
        else:
            outcome = process_exportable_results(
                task=task,
                exportable_documents=documents,
                work_dir=folder.work,
                presigned_config=_PRESIGNED.validate_python(spec.presigned_config),
                callback_invoker=relay,  # type: ignore[arg-type]
                debug_error_details=spec.debug_error_details,
                expected_doc_count=len(sources),
                start_time=started,
                allow_external_plugins=config.allow_external_plugins,
                chunker_manager=self._chunkers,
                chunking_options=chunking_options,
            )
        return _written(outcome, spec, folder, tracker)

    def _convert_all(
        self,
        spec: JobSpec,
        options: ConvertDocumentsOptions,
        folder: TaskFolder,
        tracker: ProgressTracker,
    ) -> ConvertAll:
        config = self._manager.config
        converter = self._converters.converter(options, adaptation(spec, folder))

        def convert(
            sources: list[Any], *, at_most_bytes: int = sys.maxsize
        ) -> Iterable[ConversionResult]:
            return converter.convert_all(
                sources,
                page_range=page_range(spec, options.page_range),
                max_file_size=min(config.max_file_size, at_most_bytes),
                max_num_pages=config.max_num_pages,
                raises_on_error=False,  # failures are reported here, with their position
                progress_callback=tracker,
            )

        return convert

    def _require_chunker(self, task: Task) -> None:
        """Fail before anything is converted if the requested chunker cannot be created: jobkit
        would omit the chunks, and report it only in its log."""
        if task.task_type is not TaskType.CHUNK:
            return
        options = task.chunking_options or HybridChunkerOptions()
        nothing = DoclingDocument(name="nothing")
        try:
            list(self._chunkers.chunk_document(nothing, nothing.name, options))
        except Exception as exc:
            raise ChunkerNotReady(exc, getattr(options, "tokenizer", "")) from exc

    def _task(self, spec: JobSpec) -> Task:
        """The jobkit task that its result processing reads options and targets from."""
        chunking = {"include_converted_doc": spec.include_converted_doc}
        return validate_task(
            {
                "task_id": spec.task_id,
                "task_type": spec.task_type,
                "sources": [],
                "targets": spec.targets,
                "convert_options": spec.options,
                "chunking_options": spec.chunking_options,
                "chunking_export_options": chunking,
                "callbacks": spec.callbacks,
                "target_document_version": spec.target_document_version,
            },
            allow_external_plugins=self._manager.config.allow_external_plugins,
        )

    def _sources(self, spec: JobSpec) -> list[StagedFile | RemoteUrl | Any]:
        """The sources, one for each document; those of connectors are docling's own."""
        sources: list[Any] = []
        for source in spec.sources:
            if isinstance(source, StagedFile | RemoteUrl):
                sources.append(source)
            else:
                sources.extend(self._expand(source.config))
        return sources

    def _expand(self, config: dict[str, Any]) -> list[Any]:
        plugins = self._manager.config.allow_external_plugins
        model = get_source_connector_factory(plugins).validate_config(config)
        with get_source_processor(model, allow_external_plugins=plugins) as processor:
            limit = self._manager.config.max_file_size
            return list(processor.iterate_converter_sources(max_file_size=limit))


def _one_archive(spec: JobSpec) -> bool:
    return spec.task_type == "convert" and spec.targets[0]["kind"] in _ONE_ARCHIVE


def _left(
    folder: TaskFolder, content: bytes, started: float, *, ocr_ran: bool = False
) -> JobResult:
    """Write the reply of a part of a task to the folder."""
    _write_body(folder, Rendered(content, JSON))
    return JobResult(
        body=folder.body.name,
        media_type=JSON,
        processing_time=time.monotonic() - started,
        ocr_ran=ocr_ran,
        onnx=onnx_use(),
    )


def _written(
    outcome: DoclingTaskResult, spec: JobSpec, folder: TaskFolder, tracker: ProgressTracker
) -> JobResult:
    """Write the reply to the folder; returns the summary to report."""
    rendered = _rendered(outcome, spec)
    _write_body(folder, rendered)
    return JobResult(
        body=folder.body.name,
        media_type=rendered.media_type,
        download_name=rendered.download_name,
        processing_time=outcome.processing_time,
        num_converted=outcome.num_converted,
        num_succeeded=outcome.num_succeeded,
        num_partially_succeeded=outcome.num_partially_succeeded,
        num_failed=outcome.num_failed,
        num_pages=tracker.pages,
        ocr_ran=tracker.ocr_ran,
        onnx=onnx_use(),
    )


def _rendered(outcome: DoclingTaskResult, spec: JobSpec) -> Rendered:
    if spec.output == "task_result":
        return pack(outcome)
    version = spec.target_document_version
    return render(outcome, lambda document: project_document_dict(document, version))


def _write_body(folder: TaskFolder, rendered: Rendered) -> None:
    """Write aside and rename, so that a killed worker leaves a whole reply or none."""
    aside = folder.body.with_suffix(".part")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(rendered.content)
    aside.rename(folder.body)
