"""Which addresses a callback may name."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from docling_core.utils.settings import settings as docling_settings

from docling_serve.callbacks.address import AddressRefused, pinned, require_allowed

PRIVATE = [
    "http://127.0.0.1/x",
    "http://localhost:8080/x",
    "http://10.1.2.3/x",
    "http://192.168.0.1/x",
    "http://0.0.0.0/x",
    "http://[::1]/x",
    "http://[::ffff:10.0.0.1]/x",
    "http://[fd00::1]/x",
    "http://100.64.0.1/x",
    "http://224.0.0.1/x",
]
#: Where clouds hand out credentials.
METADATA = [
    "http://169.254.169.254/latest/meta-data",
    "http://[::ffff:169.254.169.254]/x",
    "http://[fe80::1]/x",
    "http://[fd00:ec2::254]/x",
    "http://100.100.100.200/x",
]


async def is_refused(url: str, allow_private: bool) -> bool:
    """Whether both places refuse ``url``, or neither."""
    refused = []
    for check in (require_allowed, pinned):
        try:
            await check(url, allow_private=allow_private)
            refused.append(False)
        except AddressRefused:
            refused.append(True)
    assert refused[0] is refused[1]
    return refused[0]


@pytest.mark.parametrize("url", PRIVATE)
async def test_the_deployment_decides_about_private_addresses(url: str) -> None:
    assert await is_refused(url, allow_private=False)
    assert not await is_refused(url, allow_private=True)


@pytest.mark.parametrize("url", METADATA)
@pytest.mark.parametrize("allow_private", [False, True])
async def test_what_clouds_tell_a_machine_is_never_open(url: str, allow_private: bool) -> None:
    assert await is_refused(url, allow_private=allow_private)


@pytest.mark.parametrize("url", ["http://93.184.216.34/x", "https://[2606:4700::1111]:8443/x?y=1"])
async def test_what_is_public_is_allowed(url: str) -> None:
    assert not await is_refused(url, allow_private=False)
    (target,), headers, _ = await pinned(url, allow_private=False)
    assert str(target) == url
    assert headers["Host"] in url


async def test_a_name_is_looked_up_before_the_task_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {"intranet": "10.1.2.3", "metadata": "169.254.169.254"}

    async def getaddrinfo(host: str, port: int | None, **_: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror("unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (known[host], port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(AddressRefused, match=r"10\.1\.2\.3 is not public"):
        await require_allowed("http://intranet/x", allow_private=False)
    await require_allowed("http://intranet/x", allow_private=True)
    with pytest.raises(AddressRefused, match=r"169\.254\.169\.254 is link-local"):
        await require_allowed("http://metadata/x", allow_private=True)
    await require_allowed("http://not-yet-started/x", allow_private=False)


async def test_exceptions_are_those_of_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docling_settings, "allowed_private_ips", ["10.0.0.0/8", "nonsense"])
    assert not await is_refused("http://10.1.2.3/x", allow_private=False)
    assert await is_refused("http://127.0.0.1/x", allow_private=False)
    monkeypatch.setattr(docling_settings, "allowed_private_ips", ["169.254.169.254"])
    assert not await is_refused("http://169.254.169.254/x", allow_private=True)


async def test_the_connection_is_for_the_name_that_was_asked() -> None:
    targets, headers, extensions = await pinned("https://localhost:8443/x?y=1", allow_private=True)

    assert {target.host for target in targets} <= {"127.0.0.1", "::1"}
    assert {(target.port, target.raw_path) for target in targets} == {(8443, b"/x?y=1")}
    assert headers == {"Host": "localhost:8443"}
    assert extensions == {"sni_hostname": "localhost"}


@pytest.mark.parametrize("url", ["ftp://example.com/x", "file:///etc/passwd"])
async def test_only_http_is_spoken(url: str) -> None:
    with pytest.raises(AddressRefused):
        await pinned(url, allow_private=True)
