"""The documents of a job, converted one after the other, each identified by its source."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import PurePath
from typing import Any, Protocol
from urllib.parse import urlsplit

from docling.datamodel.base_models import DocumentStream, HttpSource, InputFormat
from docling.datamodel.document import ConversionResult
from docling_jobkit.datamodel.exportable_document import ExportableDocument

from docling_serve.conversion.document_limits import OverLimit
from docling_serve.conversion.exhaustion import raise_if_memory_ran_out
from docling_serve.conversion.failures import DocumentFailed, document_failure, refused, tidy
from docling_serve.conversion.input_limits import InputLimits, check_archive
from docling_serve.conversion.pdf_access import needs_password
from docling_serve.conversion.reports import ProgressTracker
from docling_serve.jobs.spec import RemoteUrl, StagedFile, TaskFolder


class ConvertAll(Protocol):
    """Converts documents that are no larger than ``at_most_bytes``, and than the server allows."""

    def __call__(
        self, sources: list[Any], *, at_most_bytes: int = sys.maxsize
    ) -> Iterable[ConversionResult]: ...


_NOT_ALLOWED = "URL is not allowed"
#: With a number and any suffix it remains a valid file name of up to 255 bytes.
_NUMBERED_STEM_BYTES = 230

Located = tuple[ConversionResult, int, str | None]
"""A result, the position of its source, and the address that identifies its origin."""


def converted(
    sources: list[Any],
    convert: ConvertAll,
    folder: TaskFolder,
    tracker: ProgressTracker,
    abort_on_error: bool,
    limits: InputLimits,
    formats: Sequence[InputFormat] = (),
) -> Iterator[Located]:
    """Convert one source after the other; only the current one is in memory. ``formats`` are those
    that the request accepts.

    Raises:
        DocumentFailed: with ``abort_on_error``, at the first document that fails.
        MemoryRanOut: of the GPU or the host.
    """
    for index, source in enumerate(sources):
        tracker.begin(index + 1)
        for result in _results(source, convert, folder, limits):
            raise_if_memory_ran_out(result.errors)
            tracker.look_at(result)
            name = _name(source, result)
            _explain_encryption(result, source, folder)
            _explain_address(result, source)
            tidy(result, name, _size(source, result, folder), formats)
            failure = document_failure(result, name, index + 1)
            if failure is None:
                tracker.converted += 1
            else:
                tracker.complaints.append(failure)
                if abort_on_error:
                    raise DocumentFailed(failure)
            yield result, index, _uri(source)


def _results(
    source: StagedFile | RemoteUrl | Any,
    convert: ConvertAll,
    folder: TaskFolder,
    limits: InputLimits,
) -> Iterable[ConversionResult]:
    """The outcome of a source: a result, or several where it is an archive of documents."""
    if isinstance(source, StagedFile):
        # docling opens an archive to find its format before any reader of ours sees it.
        path = folder.source(source)
        try:
            with path.open("rb") as file:
                check_archive(file, limits)
        except OverLimit as exc:
            return [refused(source.filename, path.stat().st_size, exc)]
        return convert([opened(source, folder)])
    # A fetched archive is unpacked during the download; this limit bounds that.
    limit = limits.max_unpacked_size
    fetched = convert([opened(source, folder)], at_most_bytes=limit)
    return (_naming_the_limit(result, limit) for result in fetched)


def _naming_the_limit(result: ConversionResult, limit: int) -> ConversionResult:
    """docling calls any such limit ``max_file_size``."""
    for error in result.errors:
        said = f"max_file_size limit of {limit} bytes"
        error.error_message = error.error_message.replace(
            said, said.replace("max_file_size", "max_unpacked_size")
        )
    return result


def opened(source: StagedFile | RemoteUrl | Any, folder: TaskFolder) -> Any:
    """The form in which docling gets a source."""
    if isinstance(source, StagedFile):
        content = (folder.source(source)).read_bytes()
        return DocumentStream(name=source.filename, stream=BytesIO(content))
    if isinstance(source, RemoteUrl):
        return HttpSource.model_validate(source.model_dump(exclude={"kind"}))
    return source


def _name(source: StagedFile | RemoteUrl | Any, result: ConversionResult) -> str:
    return source.filename if isinstance(source, StagedFile) else result.input.file.name


def _size(
    source: StagedFile | RemoteUrl | Any, result: ConversionResult, folder: TaskFolder
) -> int | None:
    """The size of the document in bytes; None if it never arrived."""
    if isinstance(source, StagedFile):
        return folder.source(source).stat().st_size
    return result.input.filesize or None


def _uri(source: StagedFile | RemoteUrl | Any) -> str | None:
    if isinstance(source, StagedFile):
        return source.filename
    return source.url if isinstance(source, RemoteUrl) else None


def _explain_encryption(
    result: ConversionResult, source: StagedFile | RemoteUrl | Any, folder: TaskFolder
) -> None:
    """Report an encrypted PDF as encrypted."""
    if (
        result.errors
        and isinstance(source, StagedFile)
        and result.input.format is InputFormat.PDF
        and needs_password(folder.source(source))
    ):
        result.errors[
            0
        ].error_message = f"{source.filename} is encrypted and needs a password; send it decrypted."


def _explain_address(result: ConversionResult, source: StagedFile | RemoteUrl | Any) -> None:
    """Report an unknown host as unknown: docling reports it as one that is not allowed."""
    host = urlsplit(source.url).hostname if isinstance(source, RemoteUrl) else None
    if host and result.errors and result.errors[0].error_message.startswith(_NOT_ALLOWED):
        try:
            socket.getaddrinfo(host, None)
        except socket.gaierror:
            result.errors[0].error_message = f"The host {host} does not resolve."
        except (OSError, UnicodeError):
            return  # unknown


def exportable(
    results: Iterable[Located], version: str | None, one_archive: bool
) -> Iterator[ExportableDocument]:
    """The results as jobkit exports them. With ``one_archive`` their files are next to each other,
    so documents whose names differ only in their suffix, or not at all, get a number each."""
    taken: set[str] = set()
    for result, index, uri in results:
        document = ExportableDocument.from_conversion_result(
            result,
            source_index=index,
            source_uri=uri or str(result.input.file),
            target_document_version=version,
        )
        if one_archive and document.document is not None:
            document.file = _apart(document.file, taken)
        yield document


def _apart(file: PurePath, taken: set[str]) -> PurePath:
    """``file`` under a stem that is not ``taken`` yet."""
    stem, number = file.stem, 1
    while stem in taken:
        number += 1
        shortened = file.stem.encode()[:_NUMBERED_STEM_BYTES].decode("utf-8", "ignore")
        stem = f"{shortened}-{number}"
    taken.add(stem)
    return file.with_name(stem + file.suffix)
