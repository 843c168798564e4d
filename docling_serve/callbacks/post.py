"""One event to one receiver over HTTP.

Clients choose the receivers, so nothing leaks from one to another: no connection is reused, no
cookie is kept, no answer is read beyond its status, and one name can take neither all the time nor
all the slots.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import stat
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from weakref import WeakValueDictionary

import httpx
from docling.datamodel.service.callbacks import CallbackSpec

from docling_serve.callbacks.address import pinned

TIMEOUT_S = 30.0  # upstream I83
_AT_ONCE = 32
_AT_ONCE_PER_HOST = 8
_CERTIFICATE_BYTES = 1024 * 1024


class CallbackPost:
    """Posts events; ``allow_private`` lets them go to private addresses. Event loop only."""

    def __init__(self, *, allow_private: bool, timeout_s: float = TIMEOUT_S) -> None:
        self._allow_private = allow_private
        self._timeout_s = timeout_s
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._client: httpx.AsyncClient | None = None

    async def __call__(self, spec: CallbackSpec, body: bytes, headers: dict[str, str]) -> None:
        """Send ``body``; a redirect is not followed, and counts as a refusal.

        Raises:
            AddressRefused: the address is not allowed.
            ValueError: it can never be sent: the address or the certificate is invalid.
            httpx.HTTPError: it was not accepted.
            OSError: the receiver cannot be reached.
            asyncio.TimeoutError: it took too long.
        """
        host = self._hosts.setdefault(spec.url.host or "", asyncio.Semaphore(_AT_ONCE_PER_HOST))
        async with host, self._places:
            await asyncio.wait_for(self._post(spec, body, headers), self._timeout_s)

    async def close(self) -> None:
        """Close connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _post(self, spec: CallbackSpec, body: bytes, headers: dict[str, str]) -> None:
        try:
            urls, host, extensions = await self._places_of(str(spec.url))
        except httpx.InvalidURL as exc:
            raise ValueError(f"its address cannot be used: {exc}") from exc
        headers = {**host, **headers}
        if spec.ca_cert:
            trusted = await asyncio.to_thread(_trust, spec.ca_cert)
            async with self._new_client(trusted) as own:
                await _first_reached(own, urls, body, headers, extensions)
            return
        if self._client is None:
            self._client = self._new_client(True)
        await _first_reached(self._client, urls, body, headers, extensions)

    async def _places_of(self, url: str) -> tuple[list[httpx.URL], dict[str, str], dict[str, Any]]:
        try:
            return await pinned(url, allow_private=self._allow_private)
        except socket.gaierror:
            if self._allow_private:  # a proxy set in the environment may resolve the name
                return [httpx.URL(url)], {}, {}
            raise

    def _new_client(self, verify: ssl.SSLContext | bool) -> httpx.AsyncClient:
        # Connections are pooled by address alone: a reused one would also serve another name there,
        # whose certificate was never verified.
        return httpx.AsyncClient(
            verify=verify,
            limits=httpx.Limits(max_keepalive_connections=0),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            timeout=self._timeout_s,
        )


async def _first_reached(
    client: httpx.AsyncClient,
    urls: list[httpx.URL],
    body: bytes,
    headers: dict[str, str],
    extensions: dict[str, Any],
) -> None:
    """Send to the first address of the receiver that accepts the connection."""
    *others, last = urls
    for url in others:
        with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):
            return await _checked(client, url, body, headers, extensions)
    return await _checked(client, last, body, headers, extensions)


async def _checked(
    client: httpx.AsyncClient,
    url: httpx.URL,
    body: bytes,
    headers: dict[str, str],
    extensions: dict[str, Any],
) -> None:
    async with client.stream(
        "POST", url, content=body, headers=headers, extensions=extensions
    ) as reply:
        if not reply.is_success:
            raise httpx.HTTPError(f"it answered {reply.status_code}")


def _trust(ca_cert: str) -> ssl.SSLContext:
    """Build an SSL context that trusts only ``ca_cert``, a path or the certificate itself. Blocks.

    Raises:
        ValueError: it is neither.
    """
    try:
        if not ca_cert.lstrip().startswith("-----BEGIN"):
            ca_cert = _certificate_in(ca_cert)
        if not ca_cert.strip():  # that would trust the system's store
            raise ValueError("its ca_cert is empty")
        return ssl.create_default_context(cadata=ca_cert)
    except OSError as exc:
        raise ValueError(f"its ca_cert cannot be used: {exc}") from exc


def _certificate_in(path: str) -> str:
    """The content of a file that a client has named, which may be anything."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("its ca_cert is not a file")
        return file.read(_CERTIFICATE_BYTES).decode("ascii", "ignore")
