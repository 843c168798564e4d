"""CUDA's device node is made by the server, here by a stand-in for ``nvidia-modprobe``."""

from __future__ import annotations

from pathlib import Path

import pytest

from docling_serve.vram.device_nodes import make_uvm_node


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    folder = tmp_path / "dev"
    folder.mkdir()
    return folder


def stand_in_modprobe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Put a program of that name on the PATH; it notes its arguments in the file returned."""
    programs, noted = tmp_path / "bin", tmp_path / "arguments"
    programs.mkdir()
    program = programs / "nvidia-modprobe"
    program.write_text(f'#!/bin/sh\necho "$@" > {noted}\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/bin:/usr/bin")
    return noted


def test_the_node_is_made_where_a_gpu_is(
    tmp_path: Path, devices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (devices / "nvidia0").touch()
    noted = stand_in_modprobe(tmp_path, monkeypatch, f"touch {devices}/nvidia-uvm")

    assert make_uvm_node(devices) == ""
    assert noted.read_text().split() == ["-u", "-c=0"]


@pytest.mark.parametrize("there", [[], ["nvidiactl"], ["nvidia0", "nvidia-uvm"]])
def test_nothing_is_run_without_need(
    tmp_path: Path, devices: Path, monkeypatch: pytest.MonkeyPatch, there: list[str]
) -> None:
    for name in there:
        (devices / name).touch()
    noted = stand_in_modprobe(tmp_path, monkeypatch, "exit 1")

    assert make_uvm_node(devices) == ""
    assert not noted.exists()


@pytest.mark.parametrize(
    ("script", "limit_s", "says"),
    [
        ("echo 'not permitted' >&2; exit 1", 20.0, "not permitted"),
        ("exit 3", 20.0, "exited with status 3"),
        ("exec sleep 60", 0.5, "did not exit within 0.5 s"),
    ],
)
def test_a_node_that_cannot_be_made_is_explained(
    tmp_path: Path,
    devices: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    limit_s: float,
    says: str,
) -> None:
    (devices / "nvidia0").touch()
    stand_in_modprobe(
        tmp_path, monkeypatch, f"exec sh -c '{script}'" if "sleep" in script else script
    )

    problem = make_uvm_node(devices, limit_s)

    assert says in problem
    assert "nvidia-modprobe -u -c=0" in problem


def test_a_machine_without_the_program_is_told_what_to_run(
    devices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (devices / "nvidia0").touch()
    monkeypatch.setenv("PATH", "")

    assert "is not installed" in make_uvm_node(devices)
