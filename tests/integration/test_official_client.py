"""docling's own client against a running server, in both modes, with real conversions.

The server asks for a key and hands out addresses in an object store, which is what the client
tries first; a second server has no store, so that the client falls back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, TypeVar
from zipfile import ZipFile

import httpx
import pytest
from docling.datamodel.base_models import ConversionStatus, OutputFormat
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.requests import S3SourceRequest
from docling.datamodel.service.targets import InBodyTarget, PresignedUrlTarget, S3Target, ZipTarget
from docling.service_client import (
    AsyncDoclingServiceClient,
    ChunkerKind,
    ConversionError,
    ConversionItem,
    DoclingServiceClient,
    RawServiceResult,
    ServiceError,
    StatusWatcherKind,
    TaskExecutionError,
)
from docling_core.types.io import DocumentStream

from tests.conftest import MODES, StartServer
from tests.helpers.api import DOCUMENTS, document, missing_phrases
from tests.helpers.s3_server import S3Server
from tests.helpers.server import RunningServer

KEY = "sesame"
UNAUTHORIZED = "Unauthorized"
WATCHERS = list(StatusWatcherKind)
FEW = ("notes.md", "page.html", "letter.docx")

T = TypeVar("T")
Connect = Callable[..., DoclingServiceClient]
ConnectAsync = Callable[..., AsyncDoclingServiceClient]


@pytest.fixture(scope="module")
def store() -> Iterator[S3Server]:
    with S3Server() as server:
        for name in FEW:
            server.put(f"in/{name}", document(name))
        yield server


@pytest.fixture(scope="module")
def service(mode: str, serve: StartServer, store: S3Server) -> Iterator[RunningServer]:
    """The server, with a key and a store."""
    env = MODES[mode] | store.artifact_storage() | {"DOCLING_SERVE_API_KEY": KEY}
    with serve(env) as running:
        yield running


@pytest.fixture
def connect(service: RunningServer, store: S3Server) -> Iterator[Connect]:
    """Makes clients, and closes them."""
    made: list[DoclingServiceClient] = []

    def make(**options: Any) -> DoclingServiceClient:
        options.setdefault("api_key", KEY)
        client = DoclingServiceClient(service.url, artifact_url_allowlist=[store.origin], **options)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(connect: Connect) -> DoclingServiceClient:
    return connect()


@pytest.fixture
def connect_async(service: RunningServer) -> ConnectAsync:
    """Makes clients for ``async with``."""

    def make(**options: Any) -> AsyncDoclingServiceClient:
        return AsyncDoclingServiceClient(service.url, api_key=KEY, **options)

    return make


# ---- converting -------------------------------------------------------------------------------


@pytest.mark.parametrize("watcher", WATCHERS)
def test_a_document_is_converted(connect: Connect, watcher: StatusWatcherKind) -> None:
    """The result travels through the object store, and is made into a document again."""
    client = connect(status_watcher=watcher, ws_fallback_to_poll=False)

    result = client.convert(DOCUMENTS / "letter.docx")

    assert result.status is ConversionStatus.SUCCESS
    assert result.input.file.name == "letter.docx"
    assert missing_phrases("letter.docx", result.document.export_to_markdown()) == []


def test_many_documents_are_converted_in_order(client: DoclingServiceClient) -> None:
    results = list(client.convert_all([DOCUMENTS / name for name in FEW]))

    assert [result.input.file.name for result in results] == list(FEW)
    for name, result in zip(FEW, results, strict=True):
        assert missing_phrases(name, result.document.export_to_markdown()) == []


def test_one_bad_document_among_many(client: DoclingServiceClient) -> None:
    bad = DocumentStream(name="bad.docx", stream=BytesIO(b"no archive at all"))

    good, broken = client.convert_all([DOCUMENTS / "notes.md", bad])

    assert good.status is ConversionStatus.SUCCESS
    assert broken.status is ConversionStatus.FAILURE
    assert broken.errors[0].error_message
    with pytest.raises(ConversionError):
        client.convert(bad)


def test_options_of_the_client_and_of_the_call(connect: Connect) -> None:
    client = connect(options=ConvertDocumentsOptions(do_ocr=True, to_formats=[OutputFormat.JSON]))

    result = client.convert(DOCUMENTS / "scan.pdf", page_range=(2, 2))

    text = result.document.export_to_markdown()
    assert "barometer" in text
    assert "Lighthouse Library" not in text


def test_each_item_with_its_own_outcome(client: DoclingServiceClient) -> None:
    items = [ConversionItem(source=DOCUMENTS / name, metadata=name) for name in FEW]

    outcomes = list(client.submit_and_retrieve_each(items, ordered=True, target=InBodyTarget()))

    assert [item.metadata for item, _ in outcomes] == list(FEW)
    for item, outcome in outcomes:
        assert not isinstance(outcome, Exception)
        assert missing_phrases(item.metadata, outcome.document.md_content) == []


# ---- tasks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("watcher", WATCHERS)
def test_a_task_is_watched_to_its_end(connect: Connect, watcher: StatusWatcherKind) -> None:
    client = connect(status_watcher=watcher, ws_fallback_to_poll=False)
    job = client.submit(DOCUMENTS / "scan.png", target=InBodyTarget())

    states = [state.task_status.value for state in job.watch()]

    assert states[-1] == "success"
    assert states == sorted(states, key=["pending", "started", "success"].index)
    assert job.done
    text = job.result().document.export_to_markdown()
    assert missing_phrases("scan.png", text) == []


def test_a_zip(client: DoclingServiceClient) -> None:
    job = client.submit(
        DOCUMENTS / "notes.md",
        target=ZipTarget(),
        output_formats=[OutputFormat.MARKDOWN, OutputFormat.TEXT],
    )

    result = job.result()

    assert isinstance(result, RawServiceResult)
    assert (result.content_type, result.filename) == ("application/zip", "converted_docs.zip")
    with ZipFile(BytesIO(result.content)) as archive:
        assert sorted(archive.namelist()) == ["notes.md", "notes.txt"]


def test_addresses_in_the_store(client: DoclingServiceClient, store: S3Server) -> None:
    formats = [OutputFormat.MARKDOWN, OutputFormat.JSON]
    job = client.submit(
        DOCUMENTS / "page.html", target=PresignedUrlTarget(), output_formats=formats
    )

    result = job.result()

    (item,) = result.documents
    assert (item.filename, item.status) == ("page.html", ConversionStatus.SUCCESS)
    addresses = {artifact.artifact_type: str(artifact.uri) for artifact in item.artifacts}
    assert set(addresses) == {"markdown", "json"}
    assert all(
        address.startswith(f"{store.origin}/documents/results/") for address in addresses.values()
    )
    text = httpx.get(addresses["markdown"], trust_env=False).text
    assert missing_phrases("page.html", text) == []


def test_chunks(client: DoclingServiceClient) -> None:
    reply = client.chunk(DOCUMENTS / "notes.md", ChunkerKind.HIERARCHICAL)

    assert missing_phrases("notes.md", " ".join(chunk.text for chunk in reply.chunks)) == []
    assert [chunk.chunk_index for chunk in reply.chunks] == list(range(len(reply.chunks)))


def test_a_task_that_fails_as_a_whole_says_why(client: DoclingServiceClient) -> None:
    job = client.submit(
        DocumentStream(name="bad.pdf", stream=BytesIO(b"%PDF-1.7 nothing")),
        options=ConvertDocumentsOptions(abort_on_error=True),
        target=InBodyTarget(),
    )

    with pytest.raises(TaskExecutionError) as told:
        job.result()
    assert "bad.pdf" in str(told.value)


def test_what_is_said_of_the_server(connect: Connect, service: RunningServer) -> None:
    client = connect()

    assert client.health().status == "ok"
    assert client.version()["docling-serve"].startswith("1.38.2")
    stranger = connect(api_key="wrong")
    with pytest.raises(ServiceError, match=UNAUTHORIZED):
        stranger.submit(DOCUMENTS / "notes.md", target=InBodyTarget())


# ---- batches ----------------------------------------------------------------------------------


def test_a_batch_from_one_folder_of_the_store_to_two(
    client: DoclingServiceClient, store: S3Server, mode: str
) -> None:
    folders = [f"{mode}/first/", f"{mode}/second/"]
    job = client.submit_batch(
        [S3SourceRequest(kind="s3", **store.coordinates("in/"))],
        targets=[S3Target(kind="s3", **store.coordinates(folder)) for folder in folders],
        output_formats=[OutputFormat.MARKDOWN],
    )

    result = job.result()

    assert (result.num_converted, result.num_succeeded) == (len(FEW), len(FEW))
    for folder in folders:
        written = {key.rsplit("/", 1)[1]: key for key in store.keys(folder)}
        assert sorted(written) == ["letter.md", "notes.md", "page.md"]
        for name in FEW:
            text = store.get(written[f"{name.split('.')[0]}.md"]).decode()
            assert missing_phrases(name, text) == []


def test_a_batch_answered_with_addresses(client: DoclingServiceClient, store: S3Server) -> None:
    job = client.submit_batch(
        [S3SourceRequest(kind="s3", **store.coordinates("in/"))], target=PresignedUrlTarget()
    )

    result = job.result()

    assert sorted(item.filename for item in result.documents) == sorted(FEW)
    assert all(item.artifacts for item in result.documents)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"bucket": "no-such-bucket"}, "bucket does not exist"),
        ({"endpoint": "127.0.0.1:9"}, "Source object storage could not be reached."),
    ],
)
def test_a_store_that_is_not_there(
    client: DoclingServiceClient, store: S3Server, wrong: dict[str, str], says: str
) -> None:
    job = client.submit_batch(
        [S3SourceRequest(kind="s3", **(store.coordinates("in/") | wrong))],
        target=S3Target(kind="s3", **store.coordinates("out/")),
    )

    with pytest.raises(TaskExecutionError, match=says):
        job.result()


# ---- the asynchronous client ------------------------------------------------------------------


async def test_asynchronous_outcomes(connect_async: ConnectAsync) -> None:
    items = [ConversionItem(source=DOCUMENTS / name, metadata=name) for name in FEW]
    async with connect_async() as client:
        assert (await client.health()).status == "ok"
        told = client.submit_and_retrieve_each(items, target=InBodyTarget())
        outcomes = {item.metadata: outcome async for item, outcome in told}
        chunking = await client.submit_chunk(DOCUMENTS / "page.html", ChunkerKind.HIERARCHICAL)
        assert (await chunking.result()).chunks
    assert set(outcomes) == set(FEW)
    for name, outcome in outcomes.items():
        assert not isinstance(outcome, Exception)
        assert missing_phrases(name, outcome.document.md_content) == []


@pytest.mark.parametrize("watcher", WATCHERS)
async def test_asynchronous_tasks(connect_async: ConnectAsync, watcher: StatusWatcherKind) -> None:
    async with connect_async(status_watcher=watcher, ws_fallback_to_poll=False) as client:
        jobs = [await client.submit(DOCUMENTS / name, target=InBodyTarget()) for name in FEW]
        states = [state.task_status.value async for state in jobs[0].watch()]
        assert states[-1] == "success"
        for name, result in zip(
            FEW, await asyncio.gather(*(job.result() for job in jobs)), strict=True
        ):
            assert missing_phrases(name, result.document.export_to_markdown()) == []


async def test_an_asynchronous_batch(
    connect_async: ConnectAsync, store: S3Server, mode: str
) -> None:
    async with connect_async() as client:
        job = await client.submit_batch(
            [S3SourceRequest(kind="s3", **store.coordinates("in/notes"))],
            target=S3Target(kind="s3", **store.coordinates(f"{mode}/async/")),
        )
        assert (await job.result()).num_succeeded == 1
    assert len(store.keys(f"{mode}/async/")) == 1


# ---- a server without a store -----------------------------------------------------------------


def test_without_a_store_the_client_falls_back(server: RunningServer) -> None:
    with DoclingServiceClient(server.url) as client:
        result = client.convert(DOCUMENTS / "letter.docx")

    assert missing_phrases("letter.docx", result.document.export_to_markdown()) == []
