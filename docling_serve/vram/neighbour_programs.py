"""The programs that may share a GPU with us, and how each is asked to free its memory.

To add one, write a class with two calls, what holds memory and how to unload it, and a line in
:func:`docling_serve.vram.neighbours.configured_neighbours`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

CONNECT_TIMEOUT_S = 2.0
ATTEMPTS = 2
"""Tries per call: one retry after a lost connection or a server error (5xx)."""

TOKEN_USER = "bearer"  # noqa: S105 - a word, not a token
"""The user in ``http://bearer:token@host``: the token is sent as such, not as a password."""


class NeighbourError(Exception):
    """A neighbour's answer does not follow its protocol."""


class NeighbourHttp:
    """HTTP to one base address, with the one retry all calls get."""

    def __init__(self, client: httpx.AsyncClient, base_url: str, timeout_s: float) -> None:
        self._client = client
        self._base_url = base_url.rstrip("/")
        self._timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        self._headers: dict[str, str] = {}
        url = httpx.URL(self._base_url)
        if url.username == TOKEN_USER:
            self._headers = {"Authorization": f"Bearer {url.password}"}
            self._base_url = str(url.copy_with(userinfo=b""))

    async def call(self, method: str, path: str, json: object = None) -> httpx.Response:
        """Send a request. A retry is safe: unloading twice has the same effect as once.

        Raises:
            NeighbourError: the answer isn't a success.
            httpx.HTTPError: there was no answer.
        """
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS
            try:
                reply = await self._client.request(
                    method,
                    self._base_url + path,
                    json=json,
                    headers=self._headers,
                    timeout=self._timeout,
                    follow_redirects=False,
                )
            except httpx.TransportError:
                if last:
                    raise
                continue
            if not reply.is_server_error or last:
                break
        if not reply.is_success:
            raise NeighbourError(f"{method} {path} was answered with status {reply.status_code}")
        return reply

    async def items(self, path: str, key: str) -> list[dict[str, Any]]:
        """GET ``path`` and return the list of objects under ``key``; null counts as empty.

        Raises:
            NeighbourError: the reply isn't JSON of that shape.
            httpx.HTTPError: there was no answer.
        """
        reply = await self.call("GET", path)
        try:
            found = reply.json()[key] or []
        except (ValueError, KeyError, TypeError) as exc:
            raise NeighbourError(f"GET {path} did not answer with a list of {key}") from exc
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise NeighbourError(f"GET {path} did not answer with a list of {key}")
        return found


class Neighbour(Protocol):
    """A program that holds GPU memory and can be asked to free it."""

    @property
    def name(self) -> str: ...
    @property
    def base_url(self) -> str: ...

    async def loaded(self, http: NeighbourHttp) -> list[str]:
        """Names of the models to unload that are loaded now."""
        ...

    async def unload(self, http: NeighbourHttp, models: Collection[str], /) -> None:
        """Ask it to unload ``models``; may return before they are unloaded."""
        ...


@dataclass(frozen=True)
class Ollama:
    """Ollama: all loaded models, or only ``model`` (its docs/api.md, server/routes.go).

    A generate request without a prompt and with ``keep_alive`` 0 unloads. Ollama answers at once; a
    model that is answering a request is unloaded when it is done.
    """

    base_url: str
    model: str = ""
    name: str = "Ollama"

    async def loaded(self, http: NeighbourHttp) -> list[str]:
        names = [str(item.get("name", "")) for item in await http.items("/api/ps", "models")]
        wanted = _with_tag(self.model) if self.model else None
        return [name for name in names if name and wanted in (None, _with_tag(name))]

    async def unload(self, http: NeighbourHttp, models: Collection[str], /) -> None:
        refused: NeighbourError | None = None
        for model in models:
            try:
                await http.call("POST", "/api/generate", {"model": model, "keep_alive": 0})
            except NeighbourError as exc:  # a model deleted while loaded, say: do the rest
                refused = exc
        if refused is not None:
            raise refused


@dataclass(frozen=True)
class LlamaSwap:
    """llama-swap: all its models (its internal/server).

    The call returns when the processes are dead. It aborts requests that a model is answering.
    """

    base_url: str
    name: str = "llama-swap"

    async def loaded(self, http: NeighbourHttp) -> list[str]:
        running = await http.items("/running", "running")
        return [str(item.get("model", "?")) for item in running if item.get("state") != "stopped"]

    async def unload(self, http: NeighbourHttp, _models: Collection[str], /) -> None:
        # The older of its two calls, supported by all versions; it always unloads everything.
        await http.call("GET", "/unload")


@dataclass(frozen=True)
class LlamaCppRouter:
    """llama.cpp's server in router mode: all its models (its tools/server/README).

    A model that is ``sleeping`` still holds a CUDA context.
    """

    base_url: str
    name: str = "llama.cpp"

    async def loaded(self, http: NeighbourHttp) -> list[str]:
        found = await http.items("/models", "data")
        return [str(item.get("id", "?")) for item in found if _status(item) in _HOLDS_MEMORY]

    async def unload(self, http: NeighbourHttp, models: Collection[str], /) -> None:
        for model in models:
            await http.call("POST", "/models/unload", {"model": model})


@dataclass(frozen=True)
class Vllm:
    """vLLM, which keeps its process and sleeps: weights go to host memory, the KV cache is dropped
    (its docs/features/sleep_mode). It needs ``VLLM_SERVER_DEV_MODE=1`` and ``--enable-sleep-mode``,
    and another program must wake it up afterwards.
    """

    base_url: str
    name: str = "vLLM"

    async def loaded(self, http: NeighbourHttp) -> list[str]:
        reply = await http.call("GET", "/is_sleeping")
        try:
            sleeping = reply.json()["is_sleeping"]
        except (ValueError, KeyError, TypeError) as exc:
            raise NeighbourError("GET /is_sleeping did not say whether it sleeps") from exc
        return [] if sleeping else ["its model"]

    async def unload(self, http: NeighbourHttp, _models: Collection[str], /) -> None:
        await http.call("POST", "/sleep?level=1")


@dataclass(frozen=True)
class LmStudio:
    """LM Studio: all loaded instances (its REST API, version 1)."""

    base_url: str
    name: str = "LM Studio"

    async def loaded(self, http: NeighbourHttp) -> list[str]:
        found: list[str] = []
        for model in await http.items("/api/v1/models", "models"):
            instances = model.get("loaded_instances") or []
            try:
                found += [str(each["id"]) for each in instances]
            except (KeyError, TypeError) as exc:
                raise NeighbourError("GET /api/v1/models did not name what is loaded") from exc
        return found

    async def unload(self, http: NeighbourHttp, models: Collection[str], /) -> None:
        for instance in models:
            await http.call("POST", "/api/v1/models/unload", {"instance_id": instance})


_HOLDS_MEMORY = frozenset(("loaded", "loading", "sleeping"))


def _status(item: dict[str, Any]) -> str:
    status = item.get("status")
    return str(status.get("value") if isinstance(status, dict) else status)


def _with_tag(model: str) -> str:
    """``llama3`` is ``llama3:latest`` to Ollama; a colon before a slash is a port."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"
