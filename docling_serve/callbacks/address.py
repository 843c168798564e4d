"""Where callbacks may go.

A deployment decides whether private addresses are open. Where they are not, the rule and the list
of exceptions (``DOCLINGCORE_ALLOWED_PRIVATE_IPS``) are those that docling has for sources.
Link-local addresses are never open by default: clouds serve a machine's credentials there. A name
is resolved once, and the connection goes to the address that was checked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import suppress
from typing import Any

import httpx
from docling_core.utils.settings import settings as docling_settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Cloud metadata services: the link-local addresses, and those outside that range.
_METADATA = tuple(
    ipaddress.ip_network(network)
    for network in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32")
)
#: A name that takes longer to resolve is checked when the event is sent.
_LOOK_UP_S = 2.0


class AddressRefused(Exception):
    """A callback names an address that is not allowed."""


async def pinned(
    url: str, *, allow_private: bool
) -> tuple[list[httpx.URL], dict[str, str], dict[str, Any]]:
    """``url`` with each checked address in place of the name, and the headers and httpx extensions
    that keep the request addressed to that name.

    Raises:
        AddressRefused: an address of the name is not allowed, or the scheme is not.
        OSError: the name cannot be resolved.
        httpx.InvalidURL: the URL is invalid.
    """
    asked = httpx.URL(url)
    if asked.scheme not in ("http", "https") or not asked.host:
        raise AddressRefused(f"{asked.scheme or 'no'} scheme")
    addresses = await _addresses(asked)
    for address in addresses:
        _require_allowed(address, allow_private)
    targets = [asked.copy_with(host=str(address)) for address in dict.fromkeys(addresses)]
    return targets, {"Host": asked.netloc.decode("ascii")}, {"sni_hostname": asked.host}


async def require_allowed(url: str, *, allow_private: bool) -> None:
    """Check before a task is accepted whether events for ``url`` would be sent. A name that cannot
    be resolved now is not refused: its service may not have started yet.

    Raises:
        AddressRefused: they would not be sent.
        httpx.InvalidURL: the URL is invalid.
    """
    with suppress(OSError, asyncio.TimeoutError):
        for address in await asyncio.wait_for(_addresses(httpx.URL(url)), _LOOK_UP_S):
            _require_allowed(address, allow_private)


async def _addresses(url: httpx.URL) -> list[Address]:
    with suppress(ValueError):
        return [ipaddress.ip_address(url.host)]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(entry[4][0]) for entry in found]


def _require_allowed(address: Address, allow_private: bool) -> None:
    if not is_allowed(address, allow_private=allow_private):
        kind = "link-local" if allow_private else "not public"
        raise AddressRefused(f"{address} is {kind}")


def is_allowed(address: Address, *, allow_private: bool) -> bool:
    """Whether anything may be sent to ``address``."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    for entry in docling_settings.allowed_private_ips:
        with suppress(ValueError):  # docling warns of an invalid entry
            if address in ipaddress.ip_network(entry.strip(), strict=False):
                return True
    if any(address in network for network in _METADATA):
        return False
    return allow_private or (
        address.is_global and not (address.is_multicast or address.is_reserved)
    )
