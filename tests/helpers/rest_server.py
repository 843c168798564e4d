"""The real app and the real local engine, with a scripted runner where conversions would run."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from docling_serve.api import make_app
from docling_serve.api.services import Services
from docling_serve.api.uploaded_files import UploadedFiles
from docling_serve.engines.local.engine import LocalEngine
from docling_serve.engines.local.lines import QueueLimits
from docling_serve.engines.local.result_cache import CacheRules
from docling_serve.engines.local.rules import LocalRules
from docling_serve.errors import Failure, TaskFailed
from docling_serve.jobs.run_request import RunRequest
from docling_serve.jobs.spec import JobResult, JobSpec
from docling_serve.ocr_only.options import FullPageLayoutOptions
from docling_serve.policy import Registry, ServicePolicy
from docling_serve.settings import DoclingServeSettings

STORAGES = ("s3", "azure_blob", "google_cloud_storage", "google_drive")


@dataclass
class ScriptedRunner:
    """Answers every task with the job it was given, as JSON, or with ``reply``, or fails it with
    ``failure``.

    A closed ``gate`` holds tasks that have started; ``begun`` gets their ids.
    """

    failure: Failure | None = None
    reply: dict[str, Any] | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    pages: int = 0
    jobs: list[JobSpec] = field(default_factory=list)
    begun: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    documents: list[bytes] = field(default_factory=list)
    requests: dict[str, RunRequest] = field(default_factory=dict)

    async def __call__(self, request: RunRequest) -> JobResult:
        spec, folder = request.spec, request.folder
        self.requests[spec.task_id] = request
        request.listeners.on_started()
        self.jobs.append(spec)
        self.begun.put_nowait(spec.task_id)
        self.documents += [folder.input(n).read_bytes() for n in _staged(spec)]
        await self.gate.wait()
        if self.failure is not None:
            raise TaskFailed(self.failure)
        folder.body.write_text(json.dumps(self.reply or {"job": spec.model_dump(mode="json")}))
        count = len(spec.sources)
        return JobResult(
            body=folder.body.name,
            media_type="application/json",
            processing_time=0.5,
            num_converted=count,
            num_succeeded=count,
            num_pages=self.pages,
        )


def _staged(spec: JobSpec) -> list[int]:
    return [n for n, source in enumerate(spec.sources) if source.kind == "file"]


@dataclass(frozen=True)
class RestServer:
    """A running server; ``client`` speaks to it through its ASGI interface."""

    app: FastAPI
    engine: LocalEngine
    services: Services
    runner: ScriptedRunner
    client: httpx.AsyncClient
    #: Events for callbacks: task id, and what would be sent.
    events: list[tuple[str, dict[str, Any]]]


@functools.cache
def everything_installed() -> Registry:
    """What docling declares, the layout of our plugin, every OCR engine, every connector."""
    declared = Registry.discover()
    return Registry(
        ocr=declared.ocr,
        layout={**declared.layout, FullPageLayoutOptions.kind: FullPageLayoutOptions},
        table_structure=declared.table_structure,
        storage_kinds=STORAGES,
    )


def settings_of(**values: Any) -> DoclingServeSettings:
    """Default settings except for ``values``, without reading any environment."""
    return DoclingServeSettings.model_construct(**values)


@asynccontextmanager
async def no_lifespan(_: FastAPI) -> AsyncIterator[None]:
    """For an app that is looked at and not run."""
    yield


@asynccontextmanager
async def rest_server(
    folder: Path, *, closed: bool = False, failure: Failure | None = None, **settings: Any
) -> AsyncIterator[RestServer]:
    """Serve with ``settings``; tasks stay in ``started`` if the gate is ``closed``."""
    config = settings_of(**settings)
    policy = ServicePolicy.from_settings(config, everything_installed())
    runner = ScriptedRunner(failure)
    if not closed:
        runner.gate.set()
    events: list[tuple[str, dict[str, Any]]] = []
    rules = LocalRules(
        limits=QueueLimits(
            config.eng_loc_max_queued_tasks,
            config.eng_loc_max_queued_bytes,
            config.eng_loc_max_queue_age,
        ),
        result_removal_delay_s=config.result_removal_delay,
        single_use_results=config.single_use_results,
        cache=CacheRules(config.api_key, config.result_cache_max_bytes, config.result_cache_max_age)
        if config.result_cache
        else None,
    )
    engine = LocalEngine(
        runner,
        rules,
        folder,
        cache_folder=folder.with_name(f"{folder.name}-result-cache"),
        on_callback=lambda task_id, _, event: events.append((task_id, event)),
        clear_converters=_nothing,
    )

    files = UploadedFiles.of(config, folder.with_name(f"{folder.name}-uploads"))
    services = Services(config, policy, engine, files)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.services = services
        queue = asyncio.create_task(engine.process_queue())
        try:
            yield
        finally:
            await engine.close()
            queue.cancel()
            files.close()

    app = make_app(config, policy, lifespan)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://server:8000"
        ) as client,
    ):
        yield RestServer(app, engine, services, runner, client, events)


async def _nothing() -> None: ...
