"""A server with a certificate: HTTPS, secure websockets, our own client commands."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from websockets.sync.client import connect

from tests.conftest import StartServer
from tests.helpers.api import missing_phrases, upload
from tests.helpers.server import NOTHING_KEPT, SUBPROCESS_MODE, RunningServer

PASSWORD = "opens the key"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def certificate_in(folder: Path, authority: trustme.CA, password: str = "") -> dict[str, str]:
    """Settings of a server that has a certificate of ``authority`` for 127.0.0.1."""
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    settings = {"UVICORN_SSL_CERTFILE": str(certificate), "UVICORN_SSL_KEYFILE": str(key)}
    if not password:
        return settings
    key.write_bytes(
        serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password.encode()),
        )
    )
    return settings | {"UVICORN_SSL_KEYFILE_PASSWORD": password}


@pytest.fixture(scope="module")
def secure(
    serve: StartServer, tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA
) -> Iterator[RunningServer]:
    settings = certificate_in(tmp_path_factory.mktemp("certificate"), authority)
    with serve(SUBPROCESS_MODE | settings, tls=trusting(authority)) as server:
        yield server


def test_a_document_converts(secure: RunningServer) -> None:
    assert secure.url.startswith("https://")
    reply = secure.api.convert(upload("notes.md"))

    assert missing_phrases("notes.md", reply.json()["document"]["md_content"]) == []


def test_a_watcher_is_told(secure: RunningServer) -> None:
    task = secure.api.submit(upload("notes.md"))
    url = secure.url.replace("https://", "wss://")
    with connect(f"{url}/v1/status/ws/{task}", ssl=secure.tls, proxy=None) as socket:
        told = [json.loads(message) for message in socket]

    assert told[0]["message"] == "connection"
    assert told[-1]["task"]["task_status"] == "success"


def test_the_client_command_trusts_what_openssl_is_told_to(
    secure: RunningServer, authority: trustme.CA, tmp_path: Path
) -> None:
    trusted, notes = tmp_path / "authority.pem", tmp_path / "notes.md"
    authority.cert_pem.write_to_path(str(trusted))
    notes.write_text("# Through TLS\n")
    command = [sys.executable, "-m", "docling_serve", "convert", str(notes), "--url", secure.url]

    ran = subprocess.run(
        command,
        env={**os.environ, "SSL_CERT_FILE": str(trusted)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (ran.returncode, ran.stdout.strip()) == (0, "# Through TLS"), ran.stderr


def test_who_does_not_know_the_authority_is_not_served(secure: RunningServer) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(secure.url + "/health", trust_env=False)


def test_plain_http_is_not_answered(secure: RunningServer) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(secure.url.replace("https://", "http://") + "/health", trust_env=False)


def test_a_key_may_have_a_password(
    start_server: StartServer, tmp_path: Path, authority: trustme.CA
) -> None:
    settings = certificate_in(tmp_path, authority, PASSWORD)
    server = start_server(SUBPROCESS_MODE | NOTHING_KEPT | settings, tls=trusting(authority))

    assert server.api.http.get("/health").json() == {"status": "ok"}
