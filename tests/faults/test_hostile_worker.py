"""A document has taken over its worker. What it can reach then, with the sandbox and without.

The attempts are made inside a real conversion, by the plugin in tests/plugins, and know every
process id and path. Run with ``-s`` to read the reports.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psutil
import pytest

import docling_serve
from docling_serve.sandbox import landlock
from tests.conftest import StartServer
from tests.helpers.api import upload
from tests.helpers.failing_documents import PAGE, faulty
from tests.helpers.server import OCR_ONLY, SUBPROCESS_MODE, WITH_FAULTY_OCR, RunningServer

KEY = "s3cret"
_ATTEMPT = re.compile(r"ATTEMPT (.+?): (.+)")
_WITHOUT = re.compile(r"workers run without (\w+): (.+)")

#: The attempts that a layer alone refuses, if the server runs as root; the rest is refused by
#: ``calls_denied``, or by several.
NEEDS = {
    "read another task's document": "files_confined",
    "list the tasks": "files_confined",
    "read the journal": "files_confined",
    "read the key of the server's configuration": "files_confined",
    "write into the code of the server": "files_confined",
    "write outside of its folder": "files_confined",
    "signal the server": "signals_confined",
    "signal the guardian": "signals_confined",
    "signal the sibling": "signals_confined",
}
#: Shows that the attempts can succeed.
SUCCEED_WITHOUT = {
    "read another task's document",
    "read the journal",
    "write outside of its folder",
    "signal the server",
    "connect to the server",
    "connect to another machine's port",
    "listen on a port",
    "connect to an abstract socket",
    "leave its process group",
}


@pytest.fixture
def reachable() -> Iterator[dict[str, Any]]:
    """What listens on this machine beside the server."""
    with ExitStack() as stack:
        tcp = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
        abstract = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
        abstract.bind("")  # the kernel chooses a name
        abstract.listen()
        yield {
            "listener": tcp.getsockname()[1],
            "abstract": abstract.getsockname()[1:].decode(),
        }


def report(
    start_server: StartServer, folder: Path, settings: dict[str, str], facts: dict[str, Any]
) -> Any:
    """The outcome of each attempt, and the layers that this kernel does not give."""
    env = {
        **SUBPROCESS_MODE,
        **WITH_FAULTY_OCR,
        **settings,
        "DOCLING_SERVE_API_KEY": KEY,
        "DOCLING_SERVE_SUBPROCESS_MAX_WORKERS": "2",
        "DOCLING_SERVE_SCRATCH_PATH": str(folder / "kept"),  # else the journal is no file
    }
    server = start_server(env, headers={"X-Api-Key": KEY})
    hanging = server.api.submit(upload(*PAGE), form=faulty("hang"))
    sibling = server.worker_of(hanging)
    elsewhere = server.folder / "elsewhere.txt"
    facts |= _facts(server, folder / "kept", hanging, sibling) | {"elsewhere": str(elsewhere)}
    config = {"kind": "faulty", "do": "nothing", "facts": facts}

    form = {"ocr_custom_config": json.dumps(config)}
    server.api.succeed(server.api.submit(upload(*PAGE), form=form))

    server.api.http.delete(f"/v1/tasks/{hanging}")
    elsewhere.unlink(missing_ok=True)
    return dict(_ATTEMPT.findall(server.log())), dict(_WITHOUT.findall(server.log()))


def _facts(server: RunningServer, scratch: Path, task: str, sibling: int) -> dict[str, Any]:
    children = psutil.Process(server.pid).children()
    (guardian,) = [c.pid for c in children if "docling-serve-guardian" in " ".join(c.cmdline())]
    return {
        "server": server.pid,
        "guardian": guardian,
        "sibling": sibling,
        "port": server.port,
        "tasks": str(scratch / "tasks"),
        "document": str(scratch / "tasks" / task / "input" / "0"),
        "journal": str(scratch / "journal.sqlite3"),
        "secret": str(OCR_ONLY),
        "code": str(Path(docling_serve.__file__)),
    }


def _print(title: str, report: dict[str, str]) -> None:
    print(f"\n{title}")
    for attempt, outcome in report.items():
        print(f"  {attempt}: {outcome}")


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_a_hostile_worker_reaches_nothing(
    start_server: StartServer, tmp_path: Path, reachable: dict[str, Any], start_method: str
) -> None:
    settings = {"DOCLING_SERVE_SUBPROCESS_START_METHOD": start_method}

    outcomes, without = report(start_server, tmp_path, settings, reachable)

    _print(f"with the sandbox, {start_method}", outcomes)
    if "calls_denied" in without:
        pytest.skip(f"this kernel takes no filter of system calls: {without['calls_denied']}")
    for layer, why in without.items():
        print(f"not looked at, since this kernel does not give {layer}: {why}")
    judged = {
        attempt: outcome
        for attempt, outcome in outcomes.items()
        if NEEDS.get(attempt) not in without and not _needs_landlock(attempt)
    }
    assert len(outcomes) > 30
    assert {a: o for a, o in judged.items() if not o.startswith("refused")} == {}


def test_without_the_sandbox_it_reaches_what_its_user_does(
    start_server: StartServer, tmp_path: Path, reachable: dict[str, Any]
) -> None:
    off = {"DOCLING_SERVE_SUBPROCESS_SANDBOX": "off"}

    outcomes, _ = report(start_server, tmp_path, off, reachable)

    _print("without the sandbox", outcomes)
    assert {a for a in SUCCEED_WITHOUT if not outcomes[a].startswith("succeeded")} == set()


def _needs_landlock(attempt: str) -> bool:
    """Whether Landlock refuses it, in a version that this kernel has not."""
    needed = {"listen on a port": 0, "connect to an abstract socket": landlock.SCOPES_VERSION}
    if attempt not in needed:
        return False
    try:
        return landlock.version() < needed[attempt]
    except OSError:
        return True
