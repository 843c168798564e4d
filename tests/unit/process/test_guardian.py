from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from docling_serve.process.guardian import Guardian
from tests.helpers.process_ends import ROOT, has_ended, killed_at_end, python

GROUP = ["sh", "-c", "trap '' TERM INT HUP; sleep 600 & echo $!; wait"]

SERVER = """
import sys, signal
from pathlib import Path
from docling_serve.process.guardian import Guardian
guardian = Guardian()
for word in sys.argv[1:]:
    what, value = word.split("=", 1)
    if what == "folder":
        guardian.remove_folder(Path(value))
    else:
        getattr(guardian, what)(int(value))
print("ready", flush=True)
signal.pause()
"""


@contextmanager
def group() -> Iterator[tuple[int, int]]:
    """A process that leads a group and ignores what it can, and a child of its."""
    leader = subprocess.Popen(GROUP, stdout=subprocess.PIPE, start_new_session=True)
    with killed_at_end(leader):
        assert leader.stdout is not None
        try:
            yield leader.pid, int(leader.stdout.readline())
        finally:
            with suppress(ProcessLookupError):
                os.killpg(leader.pid, signal.SIGKILL)


def killed(*words: str) -> None:
    """A server that tells its guardian ``words`` and is killed; returns when that has ended."""
    with subprocess.Popen(python("-c", SERVER, *words), cwd=ROOT, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        guardians = psutil.Process(server.pid).children()
        server.kill()
    assert all(has_ended(guardian.pid) for guardian in guardians)


def test_watched_groups_are_killed_whole() -> None:
    with group() as (first, child), group() as (second, _):
        killed(f"watch={first}", f"watch={second}")

        assert has_ended(first)
        assert has_ended(child)
        assert has_ended(second)


@pytest.mark.parametrize("position", ["first", "middle", "last"])
def test_a_group_that_has_ended_is_forgotten(position: str) -> None:
    with group() as (forgotten, _), group() as (one, _), group() as (two, _):
        order = {
            "first": [forgotten, one, two],
            "middle": [one, forgotten, two],
            "last": [one, two, forgotten],
        }[position]
        killed(*(f"watch={pid}" for pid in order), f"forget={forgotten}")

        assert has_ended(one)
        assert has_ended(two)
        assert not has_ended(forgotten, within_s=0)


def test_forgetting_who_was_never_watched_changes_nothing() -> None:
    with group() as (watched, _):
        killed(f"watch={watched}", "forget=1")

        assert has_ended(watched)


def test_a_number_is_not_taken_for_part_of_another() -> None:
    with group() as (watched, _):
        killed(f"watch={watched}", f"forget={str(watched)[:-1]}", f"forget={str(watched)[1:]}")

        assert has_ended(watched)


@pytest.mark.parametrize("name", ["scratch", "-rf sp ace qu'ote do$llar back\\slash 名"])
def test_the_folder_is_removed_whatever_its_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    (folder / "task").mkdir(parents=True)
    (folder / "task" / "document").write_text("private")
    (tmp_path / "other").touch()

    killed(f"folder={folder}")

    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_guardian_that_was_never_told_anything_is_no_process() -> None:
    before = psutil.Process().children()
    guardian = Guardian()
    guardian.dismiss()

    assert psutil.Process().children() == before


def test_a_dismissed_guardian_does_nothing(tmp_path: Path) -> None:
    guardian = Guardian()
    with group() as (watched, _):
        guardian.watch(watched)
        guardian.remove_folder(tmp_path)
        guardian.dismiss()
        guardian.dismiss()

        assert not has_ended(watched, within_s=0)
        assert tmp_path.exists()


def test_a_guardian_that_is_gone_is_done_without() -> None:
    before = set(psutil.Process().children())
    guardian = Guardian()
    guardian.watch(os.getpid())
    (process,) = set(psutil.Process().children()) - before
    process.kill()
    assert has_ended(process.pid)

    guardian.forget(os.getpid())
    guardian.watch(1)
    guardian.dismiss()
