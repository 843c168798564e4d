"""Servers for tests of the whole: started once where tests do not disturb each other."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from docling_serve.process.deferred_imports import PARALLEL, STORAGE, TABLES, TORCH, defer
from tests.helpers.fake_gpu.fixtures import (  # noqa: F401
    fake_gpu,
    fake_libraries,
    new_fake_gpu,
)
from tests.helpers.loops import LOOPS, NewLoop, made, unseen
from tests.helpers.scheduling import FilesTogether
from tests.helpers.server import (
    IN_PROCESS_MODE,
    SUBPROCESS_MODE,
    RunningServer,
    new_folder,
)
from tests.helpers.worker_fixtures import fork_server, nothing_is_left  # noqa: F401

# As in a worker: few tests use torch, and importing it takes each process of pytest 5 s.
defer((*TORCH, *TABLES, *STORAGE, *PARALLEL))

StartServer = Callable[..., RunningServer]

_LOG_LINES = 60
_servers = pytest.StashKey[list[RunningServer]]()
_offsets = pytest.StashKey[dict[str, int]]()

#: Limits of the shared servers, far below their defaults so that tests can reach them.
MAX_FILE_SIZE = 1_000_000
RESULT_REMOVAL_DELAY_S = 4

_SHARED = {
    "DOCLING_SERVE_MAX_FILE_SIZE": str(MAX_FILE_SIZE),
    "DOCLING_SERVE_RESULT_REMOVAL_DELAY": str(RESULT_REMOVAL_DELAY_S),
    # Lets tests serve documents from this machine; a worker fetches them.
    "DOCLINGCORE_ALLOWED_PRIVATE_IPS": '["127.0.0.1"]',
}
#: Workers stay between tasks: a test pays for a conversion, not for 8 s of imports.
KEEP_WORKERS = {
    "DOCLING_SERVE_FREE_VRAM_ON_IDLE": "false",
    "DOCLING_SERVE_SUBPROCESS_IDLE_TIMEOUT": "600",
}
FORKED = {"DOCLING_SERVE_SUBPROCESS_START_METHOD": "forkserver"}
MODES = {
    "subprocess": SUBPROCESS_MODE | KEEP_WORKERS,
    "in-process": IN_PROCESS_MODE | {"DOCLING_SERVE_LOAD_MODELS_AT_BOOT": "false"},
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--soak``: the long form of the tests in tests/soak. ``--images``: those in tests/images.
    ``--fuzz``: made-up requests for so many seconds."""
    parser.addoption("--soak", action="store_true", help="run tests/soak for as long as it takes")
    parser.addoption("--images", action="store_true", help="build images and run tests/images")
    parser.addoption("--fuzz", type=int, metavar="SECONDS", help="run tests/soak/test_fuzz.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether | None:
    """Ours for ``--dist loadfile``."""
    return FilesTogether(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, NewLoop]:
    """asyncio's own loop; others where a test's mark names them."""
    del config
    mark = item.get_closest_marker("asyncio")
    if mark is not None and "loop_factories" in mark.kwargs:
        return LOOPS
    return {"asyncio": LOOPS["asyncio"]}


@pytest.fixture(autouse=True)
def nothing_fails_unseen() -> Iterator[None]:
    """What goes wrong on a loop fails the test, also where nobody looks."""
    unseen.clear()
    made.clear()
    yield
    if made:
        gc.collect(1)  # a lost exception is reported when its task goes
    assert unseen == []


def pytest_collection_finish() -> None:
    """What is imported by now stays; a collection of garbage need not look at it each time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Nor at what a module has left: libraries that it imported, and their caches."""
    if nextitem is not None and nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether the long form was asked for."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture(scope="session")
def fuzz(request: pytest.FixtureRequest) -> int:
    """For how many seconds to send made-up requests."""
    seconds: int | None = request.config.getoption("--fuzz")
    if seconds is None:
        pytest.skip("with --fuzz SECONDS (make fuzz); tests/integration has a short form")
    return seconds


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Makes a folder for one server; removed with the other temporary folders of pytest."""
    base = tmp_path_factory.mktemp("servers")
    return lambda: new_folder(base)


@pytest.fixture(scope="session")
def known_servers(request: pytest.FixtureRequest) -> list[RunningServer]:
    """Every server of this run; a failing test shows what they logged meanwhile."""
    return request.session.stash.setdefault(_servers, [])


@pytest.fixture(scope="session")
def serve(
    server_folder: Callable[[], Path], known_servers: list[RunningServer]
) -> Callable[..., RunningServer]:
    """Makes a server, not started yet, for a ``with`` statement."""

    def make(env: dict[str, str] | None = None, **options: Any) -> RunningServer:
        server = RunningServer(server_folder(), env, **options)
        known_servers.append(server)
        return server

    return make


@pytest.fixture(scope="session", params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Subprocess mode on, then off."""
    return str(request.param)


@pytest.fixture(scope="session")
def shared_server(serve: StartServer) -> Iterator[StartServer]:
    """The server with these settings: started by the first test that asks, stopped at the end.

    A parametrized fixture would start a server again at each change of its parameter.
    """
    running: dict[str, RunningServer] = {}
    with ExitStack() as servers:

        def get(env: dict[str, str], **options: Any) -> RunningServer:
            key = repr((env, options))
            if key not in running:
                running[key] = servers.enter_context(serve(env, **options))
            return running[key]

        yield get


@pytest.fixture(scope="session")
def server(mode: str, shared_server: StartServer) -> RunningServer:
    """The shared server of conversions: one in each mode, and the API must answer the same."""
    return shared_server(_SHARED | MODES[mode])


@pytest.fixture
def start_server(serve: StartServer, leak_check: list[RunningServer]) -> Iterator[StartServer]:
    """Starts a server for one test, with settings as given. What still runs is stopped after."""

    def start(env: dict[str, str] | None = None, **options: Any) -> RunningServer:
        server = serve(env, **options)
        leak_check.append(server)
        return server.start()

    yield start
    for server in leak_check:
        if server.running:
            server.stop()


@pytest.fixture(autouse=True)
def leak_check() -> Iterator[list[RunningServer]]:
    """After each test: of the servers it started, no process, no file, no port is left."""
    started: list[RunningServer] = []
    yield started
    try:
        for server in started:
            server.assert_nothing_left()
    finally:
        for server in started:
            server.sweep()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note where the logs of running servers end."""
    servers = item.session.stash.get(_servers, [])
    item.stash[_offsets] = {server.mark: len(server.log()) for server in servers}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure what the servers logged during the test."""
    report = yield
    if report.failed:
        before = item.stash.get(_offsets, {})
        for server in item.session.stash.get(_servers, []):
            news = server.log()[before.get(server.mark, 0) :].splitlines()
            if news:
                text = "\n".join(news[-_LOG_LINES:])
                report.sections.append((f"log of the server on port {server.port}", text))
    return report
