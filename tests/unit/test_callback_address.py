"""Which addresses a callback may name."""

from __future__ import annotations

import pytest
from docling_core.utils.settings import settings as docling_settings

from docling_serve.callback_address import AddressRefused, is_refused, pinned

PRIVATE = [
    "http://127.0.0.1/x",
    "http://localhost:8080/x",
    "http://10.1.2.3/x",
    "http://192.168.0.1/x",
    "http://169.254.169.254/latest/meta-data",
    "http://0.0.0.0/x",
    "http://[::1]/x",
    "http://[::ffff:10.0.0.1]/x",
    "http://[fd00::1]/x",
    "http://100.64.0.1/x",
    "http://224.0.0.1/x",
]


@pytest.mark.parametrize("url", PRIVATE)
async def test_what_is_not_public_is_refused(url: str) -> None:
    assert is_refused(url)
    with pytest.raises(AddressRefused):
        await pinned(url)


@pytest.mark.parametrize("url", ["http://93.184.216.34/x", "https://[2606:4700::1111]:8443/x?y=1"])
async def test_what_is_public_is_not(url: str) -> None:
    assert not is_refused(url)
    target, headers, _ = await pinned(url)
    assert str(target) == url
    assert headers["Host"] in url


def test_a_name_is_asked_for_at_delivery() -> None:
    assert not is_refused("http://intranet/x")


def test_exceptions_are_those_of_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docling_settings, "allowed_private_ips", ["10.0.0.0/8", "nonsense"])
    assert not is_refused("http://10.1.2.3/x")
    assert is_refused("http://127.0.0.1/x")


async def test_the_connection_is_for_the_name_that_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(docling_settings, "allowed_private_ips", ["127.0.0.0/8", "::1"])
    target, headers, extensions = await pinned("https://localhost:8443/x?y=1")

    assert target.host in ("127.0.0.1", "::1")
    assert (target.port, target.raw_path) == (8443, b"/x?y=1")
    assert headers == {"Host": "localhost:8443"}
    assert extensions == {"sni_hostname": "localhost"}


@pytest.mark.parametrize("url", ["ftp://example.com/x", "file:///etc/passwd"])
async def test_only_http_is_spoken(url: str) -> None:
    with pytest.raises(AddressRefused):
        await pinned(url)
