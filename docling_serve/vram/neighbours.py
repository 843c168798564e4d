"""Ask other programs on the same GPU to unload their models before a conversion.

A neighbour's promise is not trusted: its own list of loaded models has to confirm it. The caller
also checks NVML, as the memory is freed a little later still.

Requests go to configured addresses only, never to one taken from a document or a request, and
redirects are not followed. A key is part of the address: ``http://any:key@host`` sends it as a
password, ``http://bearer:key@host`` as a bearer token. It is never logged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import httpx

from docling_serve.vram.neighbour_programs import (
    LlamaCppRouter,
    LlamaSwap,
    LmStudio,
    Neighbour,
    NeighbourError,
    NeighbourHttp,
    Ollama,
    Vllm,
)

CONFIRM_POLL_S = 0.25

Sleep = Callable[[float], Awaitable[None]]
Clock = Callable[[], float]

_log = logging.getLogger(__name__)


class NeighbourSettings(Protocol):
    """The settings that name the neighbours; an address that is None or empty is not asked."""

    @property
    def unload_ollama_base_url(self) -> str | None: ...
    @property
    def unload_ollama_model(self) -> str | None: ...
    @property
    def unload_llama_swap_base_url(self) -> str | None: ...
    @property
    def unload_llama_cpp_base_url(self) -> str | None: ...
    @property
    def unload_vllm_base_url(self) -> str | None: ...
    @property
    def unload_lm_studio_base_url(self) -> str | None: ...
    @property
    def unload_external_model_timeout(self) -> float: ...


class UnloadOutcome(str, Enum):
    """How a neighbour answered.

    ``STILL_LOADED``: it was asked, and its list still names a model when the time runs out.
    ``FAILED``: it answered with an error, or not as its protocol says.
    """

    UNLOADED = "unloaded"
    NOTHING_LOADED = "nothing_loaded"
    STILL_LOADED = "still_loaded"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    FAILED = "failed"


@dataclass(frozen=True)
class UnloadReport:
    """The outcome for one neighbour; ``url`` is without credentials, ``detail`` is for the log."""

    neighbour: str
    url: str
    outcome: UnloadOutcome
    detail: str
    seconds: float


def configured_neighbours(settings: NeighbourSettings) -> list[Neighbour]:
    """The neighbours that ``settings`` names."""
    found: list[Neighbour] = []
    if settings.unload_ollama_base_url:
        found.append(Ollama(settings.unload_ollama_base_url, settings.unload_ollama_model or ""))
    if settings.unload_llama_swap_base_url:
        found.append(LlamaSwap(settings.unload_llama_swap_base_url))
    if settings.unload_llama_cpp_base_url:
        found.append(LlamaCppRouter(settings.unload_llama_cpp_base_url))
    if settings.unload_vllm_base_url:
        found.append(Vllm(settings.unload_vllm_base_url))
    if settings.unload_lm_studio_base_url:
        found.append(LmStudio(settings.unload_lm_studio_base_url))
    return found


async def unload_external_models(
    settings: NeighbourSettings,
    client: httpx.AsyncClient | None = None,
    *,
    sleep: Sleep = asyncio.sleep,
    clock: Clock = time.monotonic,
) -> list[UnloadReport]:
    """Ask all configured neighbours at once to unload, and wait until they say they have.

    Takes at most ``unload_external_model_timeout`` seconds. A neighbour that fails is logged and
    skipped, never raised. Returns a report per neighbour; without configured neighbours it opens no
    connection and returns an empty list.
    """
    neighbours = configured_neighbours(settings)
    if not neighbours:
        return []
    timeout_s = settings.unload_external_model_timeout
    async with AsyncExitStack() as stack:
        if client is None:
            client = await stack.enter_async_context(_new_client())
        reports = await asyncio.gather(
            *(_unload_one(each, client, timeout_s, sleep, clock) for each in neighbours)
        )
    for report in reports:
        _log.log(
            _LEVELS.get(report.outcome, logging.WARNING),
            "%s at %s: %s (%s) after %.2f s",
            report.neighbour,
            report.url,
            report.outcome.value,
            report.detail,
            report.seconds,
        )
    return reports


_LEVELS = {
    UnloadOutcome.UNLOADED: logging.INFO,
    UnloadOutcome.NOTHING_LOADED: logging.DEBUG,
}


def _new_client() -> httpx.AsyncClient:
    # A client with a transport of its own ignores proxies in the environment. These addresses are
    # on this machine or next to it, where a proxy for the internet can't reach them.
    return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport())


async def _unload_one(
    neighbour: Neighbour, client: httpx.AsyncClient, timeout_s: float, sleep: Sleep, clock: Clock
) -> UnloadReport:
    started = clock()
    try:
        http = NeighbourHttp(client, neighbour.base_url, timeout_s)
        outcome, detail = await asyncio.wait_for(
            _unload_and_confirm(neighbour, http, started + timeout_s, sleep, clock), timeout_s
        )
    except asyncio.TimeoutError:
        outcome, detail = UnloadOutcome.TIMED_OUT, f"no answer within {timeout_s:g} s"
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as exc:
        outcome, detail = UnloadOutcome.UNREACHABLE, str(exc) or type(exc).__name__
    except httpx.TimeoutException:
        outcome, detail = UnloadOutcome.TIMED_OUT, f"no answer within {timeout_s:g} s"
    except NeighbourError as exc:
        outcome, detail = UnloadOutcome.FAILED, str(exc)
    except httpx.InvalidURL:  # its text may hold the credentials
        outcome, detail = UnloadOutcome.FAILED, "the address is not a URL"
    except httpx.HTTPError as exc:
        outcome, detail = UnloadOutcome.FAILED, f"{type(exc).__name__}: {exc}"
    return UnloadReport(
        neighbour.name, _without_credentials(neighbour.base_url), outcome, detail, clock() - started
    )


async def _unload_and_confirm(
    neighbour: Neighbour, http: NeighbourHttp, deadline: float, sleep: Sleep, clock: Clock
) -> tuple[UnloadOutcome, str]:
    asked = await neighbour.loaded(http)
    if not asked:
        return UnloadOutcome.NOTHING_LOADED, "no model to unload"
    await neighbour.unload(http, asked)
    while left := [model for model in await neighbour.loaded(http) if model in asked]:
        if clock() + CONFIRM_POLL_S >= deadline:
            return UnloadOutcome.STILL_LOADED, ", ".join(left)
        await sleep(CONFIRM_POLL_S)
    return UnloadOutcome.UNLOADED, ", ".join(asked)


def _without_credentials(url: str) -> str:
    try:
        return str(httpx.URL(url).copy_with(userinfo=b""))
    except httpx.InvalidURL:
        return "an address that is not a URL"
