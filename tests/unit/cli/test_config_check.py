"""What ``docling-serve config check`` says, and its exit code."""

from __future__ import annotations

import io
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from docling_serve.cli import config_check
from docling_serve.cli.config_check import check_config
from docling_serve.internals import docling_devices
from tests.helpers.process_ends import ROOT, python


@dataclass(frozen=True)
class Told:
    """The exit code, the table, and what is said beside it."""

    code: int
    table: str
    said: list[str]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None of our variables, and no ``.env``."""
    for name in list(os.environ):
        if name.upper().startswith(("DOCLING_SERVE_", "UVICORN_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def check(*, show_all: bool = False) -> Told:
    out, err = io.StringIO(), io.StringIO()
    code = check_config(
        Console(file=out, width=200), Console(file=err, width=200), show_all=show_all
    )
    return Told(code, out.getvalue(), err.getvalue().splitlines())


def test_nothing_is_set() -> None:
    told = check()

    assert told == Told(
        0,
        "Every setting has its default; --all shows them.\nFull install.\n",
        ["0 error(s), 0 warning(s)"],
    )


def test_all_settings_can_be_shown() -> None:
    table = check(show_all=True).table

    for name in ("UVICORN_PORT", "eng_kind", "subprocess_timeout", "otel_service_name"):
        assert name in table


def test_settings_are_shown_with_their_origin_and_without_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCLING_SERVE_API_KEY", "open sesame")
    Path(".env").write_text("DOCLING_SERVE_MAX_NUM_PAGES=4\nUVICORN_PORT=5077\n")

    told = check()

    assert told.code == 0
    assert "open sesame" not in told.table
    rows = {row.split()[0]: row.split()[1:] for row in told.table.splitlines()}
    assert rows["api_key"] == ["(set)", "DOCLING_SERVE_API_KEY"]
    assert rows["max_num_pages"] == ["4", ".env:", "DOCLING_SERVE_MAX_NUM_PAGES"]
    assert rows["UVICORN_PORT"] == ["5077", ".env:", "UVICORN_PORT"]


def test_what_looks_wrong_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCLING_SERVE_MAX_NUM_PAGE", "4")
    monkeypatch.setenv("DOCLING_SERVE_ENG_RQ_QUEUE_NAME", "convert")
    monkeypatch.setenv("UVICORN_SSL_CERTFILE", "server.pem")

    told = check()

    assert told.code == 0
    assert told.said == [
        "warning: unknown setting DOCLING_SERVE_MAX_NUM_PAGE in environment has no effect; "
        "did you mean DOCLING_SERVE_MAX_NUM_PAGES?",
        "warning: DOCLING_SERVE_ENG_RQ_QUEUE_NAME has no effect: it is for eng_kind=rq.",
        "warning: TLS needs both UVICORN_SSL_CERTFILE and UVICORN_SSL_KEYFILE; it is off",
        "0 error(s), 3 warning(s)",
    ]


def test_libraries_for_two_versions_of_cuda_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    for onnx, warned in (("12.8", True), ("13.0", False), (None, False)):
        monkeypatch.setattr(docling_devices, "onnx_cuda", lambda version=onnx: version)
        monkeypatch.setattr(docling_devices, "torch_build", lambda: {"cuda": "13.2"})
        assert any("CUDA 13.2: they cannot share" in line for line in check().said) == warned


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DOCLING_SERVE_MAX_NUM_PAGES", "many"),
        ("UVICORN_PORT", "eighty"),
        ("DOCLING_SERVE_CONFIG_FILE", "not-there.yaml"),
        ("DOCLING_SERVE_ALLOWED_TARGET_TYPES", "carrier_pigeon"),
        ("DOCLING_SERVE_ENG_KIND", "rq"),
    ],
)
def test_what_a_server_would_not_start_with_is_an_error(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)

    told = check()

    assert told.code == 1
    (error,) = [line for line in told.said if line.startswith("error: ")]
    assert variable in error or variable.removeprefix("DOCLING_SERVE_").lower() in error
    assert "its default" not in told.table


def test_more_processes_than_a_folder_can_have_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCLING_SERVE_SCRATCH_PATH", str(tmp_path))
    monkeypatch.setenv("UVICORN_WORKERS", "2")

    told = check()

    assert told.code == 1
    assert any("2 server processes cannot share one scratch_path" in line for line in told.said)


def test_all_errors_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCLING_SERVE_MAX_NUM_PAGES", "many")
    monkeypatch.setenv("DOCLING_SERVE_ENABLE_UI", "perhaps")
    monkeypatch.setenv("UVICORN_PORT", "eighty")

    assert check().said[-1] == "3 error(s), 0 warning(s)"


def test_the_command_ends_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCLING_SERVE_MAX_NUM_PAGES", "many")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    ended = subprocess.run(
        python("-m", "docling_serve", "config", "check"),
        check=False,
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 1
    assert "DOCLING_SERVE_MAX_NUM_PAGES" in ended.stderr


@pytest.mark.parametrize("both", [False, True])
def test_two_builds_of_onnx_runtime_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, both: bool
) -> None:
    monkeypatch.setattr(config_check, "_is_installed", lambda name: both or name == "onnxruntime")

    told = check()

    assert told.code == 0
    assert any("onnxruntime-gpu are both installed" in line for line in told.said) is both
