"""The fork server beside a folder that has the name of our package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import docling_serve

PROGRAM = """
import multiprocessing, os, sys
sys.path = [each for each in sys.path if each]  # as a console script has it
from docling_serve.internals import fork_server

def look(pipe):
    pipe.send(sys.modules["docling_serve"].__file__)

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["docling_serve.errors"])
    fork_server.running()
    ours, theirs = context.Pipe()
    child = context.Process(target=look, args=(theirs,))
    child.start()
    print(ours.recv() if ours.poll(60) else "no answer", os.environ.get("PYTHONSAFEPATH"))
    child.join()
    fork_server.stop()
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no safe path")
def test_a_package_in_the_working_directory_is_not_taken_for_ours(tmp_path: Path) -> None:
    stranger = tmp_path / "docling_serve"
    stranger.mkdir()
    (stranger / "__init__.py").touch()
    (stranger / "errors.py").touch()
    program = tmp_path / "elsewhere" / "program.py"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    home = Path(docling_serve.__file__).parents[1]

    ran = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(home), "PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert ran.stdout.split() == [docling_serve.__file__, "None"], ran.stderr
