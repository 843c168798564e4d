from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from docling_serve.process.guardian import Guardian
from docling_serve.storage import FolderInUse, KeptScratch, Scratch, require_free
from tests.helpers.process_ends import ROOT, has_ended, killed_at_end, python

OWNER = """
import sys, signal
from pathlib import Path
from docling_serve.storage import Scratch
scratch = Scratch(Path(sys.argv[1]))
(scratch.path / "task").mkdir()
(scratch.path / "task" / "document").write_text("private")
print(scratch.path, flush=True)
signal.pause()
"""


@contextmanager
def another_server(parent: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that holds a scratch folder with a document in it."""
    command = python("-c", OWNER, str(parent))
    with killed_at_end(
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    ) as server:
        assert server.stdout is not None
        yield server, Path(server.stdout.readline().strip())


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    scratch = Scratch(tmp_path / "scratch")
    yield scratch
    if scratch.path.exists():
        scratch.release()


def test_it_is_private_and_below_its_parent(scratch: Scratch, tmp_path: Path) -> None:
    assert scratch.path.parent == tmp_path / "scratch"
    assert scratch.path.stat().st_mode & 0o777 == 0o700


def test_the_folders_of_tasks_have_a_place_of_their_own(scratch: Scratch) -> None:
    """Whatever lies there and is no task's is removed when a server starts."""
    assert scratch.tasks.stat().st_mode & 0o777 == 0o700
    assert list(scratch.tasks.iterdir()) == []


def test_two_servers_have_two(scratch: Scratch) -> None:
    other = Scratch(scratch.path.parent)

    assert other.path != scratch.path
    assert scratch.path.exists()
    other.release()
    assert scratch.path.exists()


def test_removing_it_leaves_its_parent_and_what_else_is_there(tmp_path: Path) -> None:
    foreign = tmp_path / "somebody-elses"
    foreign.write_text("precious")
    before = {child.pid for child in psutil.Process().children()}
    scratch = Scratch(tmp_path)
    (guardian,) = {child.pid for child in psutil.Process().children()} - before
    (scratch.path / "task").mkdir()

    scratch.release()

    assert list(tmp_path.iterdir()) == [foreign]
    assert foreign.read_text() == "precious"
    assert not psutil.pid_exists(guardian)


def test_a_folder_that_is_gone_already_is_no_error(scratch: Scratch) -> None:
    shutil.rmtree(scratch.path)

    scratch.release()


# ---- what was left behind ------------------------------------------------------------------------


def dead_owners_folder(parent: Path, name: str = "docling-serve-old") -> Path:
    """What a server left whose guardian did not live to see it."""
    folder = parent / name
    folder.mkdir(parents=True)
    (folder / "owner.lock").touch()
    (folder / "document").write_text("private")
    return folder


def test_folders_of_servers_that_are_gone_are_removed(tmp_path: Path) -> None:
    left = [dead_owners_folder(tmp_path, f"docling-serve-{number}") for number in range(2)]

    scratch = Scratch(tmp_path)

    assert not any(folder.exists() for folder in left)
    scratch.release()


def test_folders_of_servers_that_live_are_kept(tmp_path: Path) -> None:
    with another_server(tmp_path) as (_, folder):
        scratch = Scratch(tmp_path)

        assert (folder / "task" / "document").read_text() == "private"
        scratch.release()
        assert folder.exists()


def test_a_folder_in_use_costs_nothing_to_look_at(tmp_path: Path) -> None:
    with another_server(tmp_path):
        Scratch(tmp_path).release()
        before = open_descriptors()
        Scratch(tmp_path).release()

        assert open_descriptors() == before, "a descriptor is left open"


@pytest.mark.parametrize("name", ["docling-serve-backup", "documents", "docling"])
def test_what_is_not_a_servers_folder_is_kept(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "precious").touch()
    (tmp_path / "docling-serve-file").touch()

    Scratch(tmp_path).release()

    assert (folder / "precious").exists()
    assert (tmp_path / "docling-serve-file").exists()


def test_a_lock_without_our_name_does_not_make_it_ours(tmp_path: Path) -> None:
    folder = dead_owners_folder(tmp_path, "other-program")

    Scratch(tmp_path).release()

    assert folder.exists()


# ---- the end of the server -----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_is_killed_leaves_no_document(tmp_path: Path, number: int) -> None:
    with another_server(tmp_path) as (server, folder):
        assert (folder / "task" / "document").exists()
        (guardian,) = psutil.Process(server.pid).children()
        server.send_signal(number)
        server.wait(300)

        assert has_ended(guardian.pid)
        assert list(tmp_path.iterdir()) == []


def test_a_shared_guardian_removes_it_when_nobody_else_can(tmp_path: Path) -> None:
    guardian = Guardian()
    scratch = Scratch(tmp_path, guardian)
    scratch.release()

    assert not scratch.path.exists()
    guardian.dismiss()


# ---- code outside the server ---------------------------------------------------------------------

ASKS = """
import sys
from docling_serve.storage import get_scratch
folder = get_scratch()
if "leave" in sys.argv:
    (folder / "document").touch()
print(folder, get_scratch(), folder.is_dir(), sep="\\n")
"""


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("leaves", [True, False])
def test_code_outside_the_server_gets_a_folder_too(
    tmp_path: Path, configured: bool, leaves: bool
) -> None:
    wanted = tmp_path / "scratch"
    environ = {k: v for k, v in os.environ.items() if not k.startswith("DOCLING_SERVE_")}
    environ["TMPDIR"] = str(tmp_path)
    if configured:
        environ["DOCLING_SERVE_SCRATCH_PATH"] = str(wanted)
    ran = subprocess.run(
        python("-c", ASKS, *(["leave"] if leaves else [])),
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    first, second, is_there = ran.stdout.splitlines()

    assert first == second
    assert is_there == "True"
    assert Path(first).is_dir() is (configured or leaves)
    assert (Path(first) == wanted) is configured
    assert Path(first).is_relative_to(tmp_path)


# ---- a folder that is kept -----------------------------------------------------------------------

KEEPER = """
import sys, signal
from pathlib import Path
from docling_serve.process.guardian import Guardian
from docling_serve.storage import KeptScratch
guardian = Guardian()
scratch = KeptScratch(Path(sys.argv[1]), guardian)
(scratch.tasks / "document").write_text("private")
if len(sys.argv) > 2:
    guardian.watch(int(sys.argv[2]))
print("ready", flush=True)
signal.pause()
"""


@contextmanager
def keeper(folder: Path, *watched: int) -> Iterator[subprocess.Popen[str]]:
    """A server that keeps ``folder``, with a guardian that kills the group ``watched``."""
    command = python("-c", KEEPER, str(folder), *map(str, watched))
    with killed_at_end(
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield server


def kept(folder: Path) -> KeptScratch:
    return KeptScratch(folder, Guardian(), wait_s=0.0)


def test_what_is_kept_stays_where_it_was_put(tmp_path: Path) -> None:
    scratch = kept(tmp_path / "scratch")
    (scratch.tasks / "document").write_text("private")
    scratch.release()

    again = kept(tmp_path / "scratch")
    assert (again.tasks / "document").read_text() == "private"
    assert again.tasks.stat().st_mode & 0o777 == 0o700
    again.release()


def test_a_second_server_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    with keeper(tmp_path) as server:
        with pytest.raises(FolderInUse, match=f"{tmp_path} .*process {server.pid}"):
            kept(tmp_path)
        with pytest.raises(FolderInUse):
            require_free(tmp_path, wait_s=0.0)

        assert (tmp_path / "tasks" / "document").exists()


def test_a_folder_is_free_once_its_server_was_killed(tmp_path: Path) -> None:
    with keeper(tmp_path) as server:
        server.kill()
        server.wait(300)
    require_free(tmp_path)
    scratch = KeptScratch(tmp_path, Guardian())

    assert (tmp_path / "tasks" / "document").exists()
    scratch.release()


def test_a_folder_that_nobody_had_is_free(tmp_path: Path) -> None:
    require_free(tmp_path / "new", wait_s=0.0)

    assert not (tmp_path / "new").exists()


def test_the_next_server_comes_after_the_workers_of_a_killed_one(tmp_path: Path) -> None:
    """Else two workers would write the same task's files."""
    group = ["sh", "-c", "trap '' TERM; sleep 600 & wait"]
    with (
        subprocess.Popen(group, start_new_session=True) as worker,
        keeper(tmp_path, worker.pid) as server,
    ):
        server.kill()
        KeptScratch(tmp_path, Guardian()).release()

        assert has_ended(worker.pid, within_s=0)


def test_what_temporary_servers_left_below_it_is_removed(tmp_path: Path) -> None:
    left = dead_owners_folder(tmp_path)
    (tmp_path / "precious").touch()

    kept(tmp_path).release()

    assert not left.exists()
    assert (tmp_path / "precious").exists()
