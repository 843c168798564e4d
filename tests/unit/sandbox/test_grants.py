from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from docling_serve.sandbox import grants
from docling_serve.sandbox.grants import model_caches, readable
from docling_serve.sandbox.syscalls import _NUMBERS


def test_a_secret_is_left_out_of_the_folder_it_lies_in(tmp_path: Path) -> None:
    secret = tmp_path / "models" / "keys" / "api"
    (tmp_path / "models" / "weights").mkdir(parents=True)
    secret.mkdir(parents=True)
    (secret.parent / "public").touch()

    kept = set(readable({}, [str(tmp_path / "models")], [str(secret)]))

    assert {p for p in kept if p.startswith(str(tmp_path))} == {
        str(tmp_path / "models" / "weights"),
        str(tmp_path / "models" / "keys" / "public"),
    }


def test_what_is_named_below_a_secret_is_read_and_nothing_beside_it(tmp_path: Path) -> None:
    """Models may lie in the folder for temporary files, in which the scratch folder is made."""
    (tmp_path / "scratch" / "models").mkdir(parents=True)
    (tmp_path / "scratch" / "tasks").mkdir()
    asked = [str(tmp_path / "scratch" / "models"), str(tmp_path / "scratch"), str(tmp_path)]

    kept = readable({}, asked, [str(tmp_path / "scratch")])

    assert [path for path in kept if path.startswith(str(tmp_path))] == asked[:1]


def test_of_a_home_that_python_imports_from_only_modules_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("package/__init__.py", "module.py", "notes.txt", "documents/letter.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    kept = {path for path in readable({}) if path.startswith(str(tmp_path))}

    assert kept == {str(tmp_path / "package"), str(tmp_path / "module.py")}


def test_what_variables_name_is_read(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"

    kept = readable({"HF_HOME": str(first), "LD_LIBRARY_PATH": f"{second}:relative:"})

    assert {str(first), str(second)} <= set(kept)
    assert "relative" not in kept
    assert "/" not in kept


def test_caches_of_models_are_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)

    caches = model_caches({"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "missing")})

    assert str(tmp_path / ".cache" / "huggingface") in caches
    assert str(tmp_path / "missing") not in caches


def test_no_home_and_no_key_of_the_system_is_read() -> None:
    kept = readable(dict(os.environ))

    assert not {"/", "/etc", "/home", "/root", "/tmp", "/var", "/run", "/etc/shadow"} & set(kept)


def test_a_gpus_devices_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins of the nodes that a driver makes; no card is needed to grant a path."""
    for node in ("nvidia0", "nvidiactl", "nvidia-uvm", "null", "sda"):
        (tmp_path / node).touch()
    monkeypatch.setattr(grants, "_DEV", tmp_path)

    kept = {Path(path).name for path in grants.devices()}

    assert {"nvidia0", "nvidiactl", "nvidia-uvm"} <= kept
    assert "sda" not in kept


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 0),
        ("/usr/include/asm-generic/unistd.h", 1),
    ],
)
def test_numbers_of_system_calls_are_the_kernels(header: str, column: int) -> None:
    if not Path(header).exists():
        pytest.skip(f"the kernel's headers are not installed: {header}")
    text = Path(header).read_text(encoding="utf-8")
    pattern = r"#define __NR(?:3264)?_(\w+)\s+(\d+)"
    known = {name: int(number) for name, number in re.findall(pattern, text)}
    named = {name: numbers[column] for name, numbers in _NUMBERS.items() if name in known}

    assert len(named) > 60
    assert {name: known[name] for name in named} == named
