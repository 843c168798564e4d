"""Where callbacks may go: public addresses, and those that the deployment allows.

The rule and the list of exceptions (``DOCLINGCORE_ALLOWED_PRIVATE_IPS``) are those that docling has
for sources. A name is resolved once, and the connection is made to what was looked at.
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


class AddressRefused(Exception):
    """A callback is for an address that it must not go to."""


async def pinned(url: str) -> tuple[httpx.URL, dict[str, str], dict[str, Any]]:
    """``url`` with a checked address in place of the name, and the headers and httpx extensions
    with which the request still is for that name.

    Raises:
        AddressRefused: an address of the name is not allowed, or the scheme is not.
        OSError: the name cannot be resolved.
        httpx.InvalidURL: nothing can be sent there.
    """
    asked = httpx.URL(url)
    if asked.scheme not in ("http", "https") or not asked.host:
        raise AddressRefused(f"{asked.scheme or 'no'} scheme")
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(asked.host, asked.port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    for address in addresses:
        if not is_allowed(address):
            raise AddressRefused(f"{address} is not public")
    target = asked.copy_with(host=str(addresses[0]))
    return target, {"Host": asked.netloc.decode("ascii")}, {"sni_hostname": asked.host}


def is_refused(url: str) -> bool:
    """Whether ``url`` names a refused address itself; a name is only looked up at delivery.

    Raises:
        httpx.InvalidURL: nothing can be sent there.
    """
    host = httpx.URL(url).host
    try:
        return not is_allowed(ipaddress.ip_address(host))
    except ValueError:
        return host == "localhost" and not is_allowed(ipaddress.IPv4Address("127.0.0.1"))


def is_allowed(address: Address) -> bool:
    """Whether anything may be sent to ``address``."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    for entry in docling_settings.allowed_private_ips:
        with suppress(ValueError):  # docling warns of an entry that is none
            if address in ipaddress.ip_network(entry.strip(), strict=False):
                return True
    return address.is_global and not (address.is_multicast or address.is_reserved)
