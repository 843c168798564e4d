from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from docling_serve.subprocess_worker.child.containment import (
    limit_threads,
    scrub_environment,
    use_temporary_folder,
)
from tests.helpers.process_ends import ROOT, python

SECRETS = {
    "DOCLING_SERVE_API_KEY": "s3cret",
    "docling_serve_api_key": "s3cret",
    "AWS_SECRET_ACCESS_KEY": "s3cret",
    "DATABASE_URL": "s3cret",
    "UVICORN_SSL_KEYFILE_PASSWORD": "s3cret",
}
NEEDED = {
    "PATH": "/bin",
    "HOME": "/root",
    "LC_ALL": "C",
    "HF_HOME": "/models",
    "CUDA_VISIBLE_DEVICES": "0",
    "DOCLINGCORE_ALLOWED_PRIVATE_IPS": "[]",
    "DOCLING_ARTIFACTS_PATH": "/models",
    "https_proxy": "http://proxy",
    "OMP_NUM_THREADS": "2",
}


def test_a_worker_keeps_what_conversion_needs_and_no_secret() -> None:
    environ = SECRETS | NEEDED

    scrub_environment(environ, ())

    assert environ == NEEDED


def test_more_can_be_passed_by_exact_name() -> None:
    environ = {"MY_PLUGIN": "1", "MY_PLUGIN_SECRET": "2"}

    scrub_environment(environ, ("MY_PLUGIN",))

    assert environ == {"MY_PLUGIN": "1"}


@pytest.mark.parametrize(("threads", "expected"), [(0, None), (3, "3")])
def test_threads_of_a_worker_are_limited(threads: int, expected: str | None) -> None:
    environ: dict[str, str] = {}

    limit_threads(environ, threads)

    assert environ.get("OMP_NUM_THREADS") == expected
    assert environ.get("MKL_NUM_THREADS") == expected


def test_what_the_operator_set_is_left_alone() -> None:
    environ = {"OMP_NUM_THREADS": "7"}

    limit_threads(environ, 2)

    assert environ["OMP_NUM_THREADS"] == "7"
    assert environ["OPENBLAS_NUM_THREADS"] == "2"


CONTAINED = """
import json, os, resource, signal
from pathlib import Path
from docling_serve.subprocess_worker.child.containment import (
    contain, forget_initial_environment, scrub_environment,
)
autogroup = Path("/proc/self/autogroup")
nice = os.nice(0)
done = contain(parent_pid=os.getppid(), nice=3)
scrub_environment(os.environ, ())
forget_initial_environment(os.environ)
print(json.dumps({
    "done": done,
    "leads its session": os.getsid(0) == os.getpid(),
    "leads its group": os.getpgid(0) == os.getpid(),
    "ctrl-c": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
    "sigterm": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
    "umask": os.umask(0),
    "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
    "nicer by": os.nice(0) - nice,
    "session": autogroup.read_text() if autogroup.exists() else f"none nice {os.nice(0)}",
    "nice": os.nice(0),
    "status": Path("/proc/self/status").read_text(),
    "oom": int(Path("/proc/self/oom_score_adj").read_text()),
    "environ": os.environ.copy(),
    "initial": Path("/proc/self/environ").read_bytes().decode(),
}))
"""


def test_a_worker_contains_itself_before_it_works() -> None:
    ran = subprocess.run(
        python("-c", CONTAINED),
        cwd=ROOT,
        env={**os.environ, **SECRETS, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    seen = json.loads(ran.stdout)

    assert set(seen["done"].values()) == {"on"}
    assert seen["leads its session"]
    assert seen["leads its group"]
    assert seen["ctrl-c"]
    assert seen["sigterm"]
    assert seen["umask"] == 0o077
    assert seen["core"] == 0
    assert seen["nicer by"] == 3
    assert seen["session"].split()[-1] == str(seen["nice"])
    assert "NoNewPrivs:\t1" in seen["status"]
    assert seen["oom"] == 500
    assert seen["environ"]["LC_ALL"] == "C"
    assert "s3cret" not in seen["initial"] + str(seen["environ"])


ORPHAN = """
import os, signal
from docling_serve.subprocess_worker.child.containment import contain
contain(parent_pid=os.getppid() + 1)  # somebody else's child by now
print("on", flush=True)
signal.pause()
"""


def test_a_worker_that_is_not_our_child_is_not_tied_to_its_parents_thread() -> None:
    """Under forkserver the parent is the fork server, whose end means nothing."""
    with subprocess.Popen(python("-c", ORPHAN), cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == -signal.SIGTERM


def test_temporary_files_go_where_the_task_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    monkeypatch.setattr(tempfile, "tempdir", None)

    use_temporary_folder(tmp_path / "temp")

    with tempfile.NamedTemporaryFile() as file:
        assert Path(file.name).parent == tmp_path / "temp"
    assert os.environ["TMPDIR"] == str(tmp_path / "temp")
    assert stat.S_IMODE((tmp_path / "temp").stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    monkeypatch.setattr(tempfile, "tempdir", None)

    use_temporary_folder(tmp_path / "missing" / "temp")
