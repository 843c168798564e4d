"""A connection to the server, and what its refusals look like in a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.markup import escape

#: For people: standard output carries results alone.
console = Console(stderr=True, highlight=False, soft_wrap=True)

DEFAULT_URL = "http://127.0.0.1:5001"
_CONNECT_RETRIES = 5  # httpx waits longer before each
#: Longer than the pause between two heartbeats of the server.
_SILENCE_S = 60.0

Url = Annotated[
    str, typer.Option(help="Address of the server.", envvar="DOCLING_SERVE_URL", show_envvar=True)
]
ApiKey = Annotated[str, typer.Option(help="The server's API key.", envvar="DOCLING_SERVE_API_KEY")]


@contextmanager
def connected(url: str, api_key: str) -> Iterator[httpx.Client]:
    """A client of the server. A refusal or a broken connection ends the command with one line."""
    headers = {"X-Api-Key": api_key} if api_key else {}
    transport = httpx.HTTPTransport(retries=_CONNECT_RETRIES)
    timeout = httpx.Timeout(_SILENCE_S, write=None)
    try:
        with httpx.Client(
            base_url=url, headers=headers, timeout=timeout, transport=transport
        ) as client:
            yield client
    except httpx.HTTPStatusError as exc:
        console.print(f"[red]error:[/] {escape(refusal(exc))}")
        raise typer.Exit(1) from exc
    except httpx.InvalidURL as exc:
        raise typer.BadParameter(f"{url!r} is not an address: {exc}", param_hint="--url") from exc
    except (httpx.TransportError, httpx.UnsupportedProtocol) as exc:
        console.print(f"[red]error:[/] no answer from {escape(url)}: {escape(str(exc))}")
        raise typer.Exit(1) from exc


def refusal(error: httpx.HTTPStatusError) -> str:
    """The server's message, in one line; with advice where the status suggests some."""
    reply = error.response
    said = _detail(reply)
    if reply.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return f"{said} Pass the server's key as --api-key or DOCLING_SERVE_API_KEY."
    return f"the server answered {reply.status_code}: {said}"


def _detail(reply: httpx.Response) -> str:
    try:
        reply.read()
        detail: Any = reply.json()["detail"]
    except (httpx.StreamError, ValueError, KeyError, TypeError):
        return reply.reason_phrase
    if isinstance(detail, list):  # FastAPI's list of validation errors
        return "; ".join(
            f"{'.'.join(map(str, each.get('loc', ())))}: {each.get('msg')}" for each in detail
        )
    return detail if isinstance(detail, str) else json.dumps(detail)
