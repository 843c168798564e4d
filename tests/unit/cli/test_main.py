"""The command line, with uvicorn's start written down instead of carried out."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import uvicorn
from typer.testing import CliRunner

import docling_serve.settings as shared
from docling_serve.cli import main
from docling_serve.cli.main import app
from tests.helpers.process_ends import ROOT, python

_HANDED_DOWN = (
    "DOCLING_SERVE_ARTIFACTS_PATH",
    "DOCLING_SERVE_ENABLE_UI",
    "DOCLING_SERVE_LOG_LEVEL",
)
Runs = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """None of our variables, shared settings that are read anew, and all of it put back."""
    for name in list(os.environ):
        if name.upper().startswith(("DOCLING_SERVE_", "UVICORN_")):
            monkeypatch.delenv(name)
    for name in _HANDED_DOWN:  # remembered as absent, whatever a command sets
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    before: dict[str, Any] = {
        name: vars(shared).pop(name)
        for name in ("docling_serve_settings", "uvicorn_settings")
        if name in vars(shared)
    }
    yield
    for name in ("docling_serve_settings", "uvicorn_settings"):
        vars(shared).pop(name, None)
    vars(shared).update(before)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Every server that was to be started, as uvicorn was told."""
    calls: Runs = []

    def run(target: str, **options: Any) -> None:
        calls.append({"target": target, **options})

    monkeypatch.setattr(uvicorn, "run", run)
    monkeypatch.setattr(main, "_require_port", lambda *_: None)  # other tests may use it now
    return calls


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, words)


# ---- what there is -------------------------------------------------------------------------------

SERVING = {
    "--host",
    "--port",
    "--reload",
    "--no-reload",
    "--root-path",
    "--proxy-headers",
    "--no-proxy-headers",
    "--timeout-keep-alive",
    "--ssl-certfile",
    "--ssl-keyfile",
    "--ssl-keyfile-password",
    "--artifacts-path",
    "--enable-ui",
    "--no-enable-ui",
}
AT_A_SERVER = {"--url", "--api-key"}
COMMANDS = {
    "run": SERVING | {"--workers"},
    "dev": SERVING,
    "rq-worker": {"--workers"},
    # New here: see "client commands" in docs/differences.md.
    "convert": AT_A_SERVER
    | {"sources", "--to", "-t", "--output", "-o", "--option", "-O", "--ocr", "--no-ocr"}
    | {"--force-ocr", "--pages", "--name", "--json", "--quiet", "-q"},
    "tasks": AT_A_SERVER | {"--state", "--limit", "-n", "--json"},
    "watch": AT_A_SERVER | {"task_id"},
    "cancel": AT_A_SERVER | {"task_ids"},
    "workers": AT_A_SERVER | {"--json"},
    "doctor": {"documents", "--convert", "--tasks", "--plot", "--json"},
}


def flags(command: Any) -> set[str]:
    return {flag for p in command.params for flag in [*p.opts, *p.secondary_opts]} - {"--help"}


def test_the_commands_and_their_options_are_those_people_use() -> None:
    group: Any = typer.main.get_command(app)

    told = {name: flags(command) for name, command in group.commands.items()}
    assert told.pop("config") == set(), "a group of ours, listed in docs/differences.md"
    assert told == COMMANDS
    assert flags(group) == {
        "--version",
        "--no-version",
        "--verbose",
        "-v",
        "--install-completion",
        "--show-completion",
    }


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["dev", "--help"]])
def test_help_is_there(words: list[str]) -> None:
    result = invoke(*words)

    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize(
    "words", [[], ["fly"], ["run", "--port", "eighty"], ["run", "--no-such-flag"]]
)
def test_a_wrong_use_ends_with_2(words: list[str], started: Runs) -> None:
    assert invoke(*words).exit_code == 2
    assert started == []


def test_versions_are_printed_a_line_each() -> None:
    result = invoke("--version")
    names = [line.partition(":")[0] for line in result.output.splitlines()]

    assert result.exit_code == 0
    assert names[0] == "docling-serve"
    assert names[-2:] == ["python", "platform"]
    assert {"docling", "docling-core", "docling-jobkit"} <= set(names)


# ---- what is started -----------------------------------------------------------------------------


def test_run_has_the_defaults_of_production(started: Runs) -> None:
    result = invoke("run")

    assert result.exit_code == 0, result.output
    (server,) = started
    assert server["timeout_graceful_shutdown"] > 0
    assert {k: v for k, v in server.items() if k != "timeout_graceful_shutdown"} == {
        "target": "docling_serve.app:create_app",
        "factory": True,
        "log_config": None,
        "host": "0.0.0.0",
        "port": 5001,
        "reload": False,
        "workers": None,
        "root_path": "",
        "proxy_headers": True,
        "timeout_keep_alive": 60,
        "http": "docling_serve.internals.uvicorn_connections:GuardedConnection",
        "ws_max_size": 64 * 1024,
        "ssl_certfile": None,
        "ssl_keyfile": None,
        "ssl_keyfile_password": None,
    }
    assert "Starting production server" in result.output
    assert "http://0.0.0.0:5001" in result.output


def test_dev_listens_to_this_machine_and_restarts(started: Runs) -> None:
    result = invoke("dev")

    (server,) = started
    assert (server["host"], server["port"], server["reload"]) == ("127.0.0.1", 5001, True)
    assert os.environ["DOCLING_SERVE_ENABLE_UI"] == "true"
    assert "Starting development server" in result.output
    assert "production" in result.output


@pytest.mark.parametrize(
    ("name", "value", "option", "expected"),
    [
        ("UVICORN_HOST", "127.0.0.1", "host", "127.0.0.1"),
        ("UVICORN_PORT", "8080", "port", 8080),
        ("UVICORN_WORKERS", "2", "workers", 2),
        ("UVICORN_RELOAD", "true", "reload", True),
        ("UVICORN_ROOT_PATH", "/docling", "root_path", "/docling"),
        ("UVICORN_PROXY_HEADERS", "false", "proxy_headers", False),
        ("UVICORN_TIMEOUT_KEEP_ALIVE", "5", "timeout_keep_alive", 5),
        ("UVICORN_SSL_KEYFILE_PASSWORD", "s3cret", "ssl_keyfile_password", "s3cret"),
    ],
)
def test_the_environment_gives_defaults(
    monkeypatch: pytest.MonkeyPatch,
    started: Runs,
    name: str,
    value: str,
    option: str,
    expected: Any,
) -> None:
    monkeypatch.setenv(name, value)
    result = invoke("run")

    assert started[0][option] == expected
    assert "s3cret" not in result.output


def test_a_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch, started: Runs) -> None:
    monkeypatch.setenv("UVICORN_PORT", "8080")
    monkeypatch.setenv("DOCLING_SERVE_ENABLE_UI", "true")
    invoke("run", "--port", "9090", "--no-enable-ui", "--artifacts-path", "/models")

    assert started[0]["port"] == 9090
    assert os.environ["DOCLING_SERVE_ENABLE_UI"] == "false"
    assert os.environ["DOCLING_SERVE_ARTIFACTS_PATH"] == "/models"


def test_dev_passes_on_the_number_of_workers(
    monkeypatch: pytest.MonkeyPatch, started: Runs
) -> None:
    monkeypatch.setenv("UVICORN_WORKERS", "3")
    monkeypatch.setenv("UVICORN_HOST", "10.0.0.1")
    invoke("dev")

    assert started[0]["workers"] == 3
    assert started[0]["host"] == "127.0.0.1", "not its environment variable"


def test_certificate_and_key_make_the_address_secure(started: Runs, tmp_path: Path) -> None:
    files = [tmp_path / "cert.pem", tmp_path / "key.pem"]
    for file in files:
        file.touch()
    result = invoke("run", "--ssl-certfile", str(files[0]), "--ssl-keyfile", str(files[1]))

    assert "https://0.0.0.0:5001" in result.output
    assert [str(started[0][name]) for name in ("ssl_certfile", "ssl_keyfile")] == [
        str(file) for file in files
    ]


@pytest.mark.parametrize(("flag", "level"), [("-v", "INFO"), ("-vv", "DEBUG"), ("-vvv", "DEBUG")])
def test_verbose_sets_the_log_level(started: Runs, flag: str, level: str) -> None:
    invoke(flag, "run")

    assert os.environ["DOCLING_SERVE_LOG_LEVEL"] == level
    assert started


def test_a_log_level_that_is_set_stays(monkeypatch: pytest.MonkeyPatch, started: Runs) -> None:
    monkeypatch.setenv("DOCLING_SERVE_LOG_LEVEL", "ERROR")
    invoke("-vv", "run")

    assert os.environ["DOCLING_SERVE_LOG_LEVEL"] == "ERROR"


# ---- what is refused -----------------------------------------------------------------------------


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = invoke("run", "--host", "127.0.0.1", "--port", str(port))

    assert result.exit_code == 1
    assert result.output == f"port {port} of 127.0.0.1 is in use: choose another with --port\n"


def test_an_address_of_another_machine_is_one_line() -> None:
    result = invoke("run", "--host", "192.0.2.1")

    assert result.exit_code == 1
    assert result.output.startswith("cannot listen on 192.0.2.1, port 5001: ")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("DOCLING_SERVE_MAX_SYNC_WAIT", "soon", "DOCLING_SERVE_MAX_SYNC_WAIT"),
        ("DOCLING_SERVE_ENG_KIND", "steam", "DOCLING_SERVE_ENG_KIND"),
        ("DOCLING_SERVE_ENG_KIND", "ray", "eng_kind is ray"),
        ("DOCLING_SERVE_CONFIG_FILE", "/no/such/file.yaml", "/no/such/file.yaml"),
        ("UVICORN_PORT", "eighty", "UVICORN_PORT"),
    ],
)
@pytest.mark.parametrize("command", ["run", "dev"])
def test_a_wrong_setting_ends_with_1_and_names_it(
    monkeypatch: pytest.MonkeyPatch,
    started: Runs,
    command: str,
    name: str,
    value: str,
    says: str,
) -> None:
    monkeypatch.setenv(name, value)
    result = invoke(command)

    assert result.exit_code == 1
    assert says in result.output
    assert "Traceback" not in result.output
    assert started == []


def test_a_redis_that_is_not_there_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, started: Runs
) -> None:
    """Upstream M105."""
    monkeypatch.setenv("DOCLING_SERVE_ENG_KIND", "rq")
    monkeypatch.setenv("DOCLING_SERVE_ENG_RQ_REDIS_URL", "redis://127.0.0.1:1/")
    result = invoke("run")

    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.output
    assert started == []


def test_a_damaged_journal_ends_with_1_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, started: Runs, tmp_path: Path
) -> None:
    (tmp_path / "journal.sqlite3").write_text("not a database" * 100)
    monkeypatch.setenv("DOCLING_SERVE_SCRATCH_PATH", str(tmp_path))
    result = invoke("run")

    assert result.exit_code == 1
    assert "Put a backup in its place" in result.output
    assert started == []


def test_a_folder_of_tasks_is_for_one_server_process(
    monkeypatch: pytest.MonkeyPatch, started: Runs, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCLING_SERVE_SCRATCH_PATH", str(tmp_path))
    result = invoke("run", "--workers", "2")

    assert result.exit_code == 1
    assert "cannot share one scratch_path" in result.output
    assert started == []


#: What the script ``docling-serve`` does. The module without a command is in tests/integration.
SCRIPT = ["-c", "from docling_serve.__main__ import main; main()"]


@pytest.mark.parametrize("command", [SCRIPT, ["-m", "docling_serve", "--version"]])
def test_the_package_can_be_run(command: list[str], tmp_path: Path) -> None:
    ran = subprocess.run(
        python(*command),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert ran.returncode == (0 if "--version" in command else 2)
    assert ("docling-serve: " in ran.stdout) is ("--version" in command)
