"""``docling-serve doctor`` as users run it, on machines that a fake NVIDIA driver plays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.api import SLIP, document
from tests.helpers.eventually import eventually
from tests.helpers.fake_gpu import GIB, FakeCard, FakeDriver, FakeGpu, FakeProcess
from tests.helpers.fake_gpu.fixtures import BuiltLibraries
from tests.helpers.process_ends import ROOT, descendants, has_ended, killed_at_end, python

LIMIT_S = 500.0
#: Tests of the fake driver say what it plays; the card of a machine that has one is not for them.
_FOREIGN = ("DOCLING_SERVE_", "UVICORN_", "CUDA_VISIBLE_DEVICES", "DOCLING_DEVICE")

OCR_ONLY = {
    "DOCLING_SERVE_CONFIG_FILE": str(ROOT / "examples" / "ocr-only.yaml"),
    "HF_HUB_OFFLINE": "1",
    "DOCLING_SERVE_LOAD_MODELS_AT_BOOT": "false",
}
#: A worker that holds models is larger than this, one that stands by is smaller.
MODELS = 400_000_000

#: The modules that a process has imported, printed at its end. The facts go to a file too.
_SPY = """
import atexit, os, pathlib, pickle, sys
heavy = ("torch", "transformers", "onnxruntime", "docling")
def tell():
    print("imported:", [name for name in heavy if sys.modules.get(name)], file=sys.stderr)
atexit.register(tell)
from docling_serve.cli.main import app
from docling_serve.doctor import command
examine = command.examine
def examined():
    facts = examine()
    pathlib.Path(os.environ["FACTS"]).write_bytes(pickle.dumps(facts))
    return facts
command.examine = examined
app()
"""

#: What no card changes was asked once; starting workers and engines for it takes 10 s each time.
_KNOWN = """
import os, pathlib, pickle
from docling_serve.cli.main import app
from docling_serve.doctor import command, examination
facts = pickle.loads(pathlib.Path(os.environ["FACTS"]).read_bytes())
examination._workers = lambda limit_s: facts.workers
question = examination._question
examination._question = lambda name, *more: (
    facts.engines if name == "engines" else question(name, *more)
)
"""
_CARDS = _KNOWN + "app()\n"
#: A trial alone: the facts are those of the machine without a GPU.
_TRIAL = _KNOWN + "command.examine = lambda: facts\napp()\n"


@dataclass(frozen=True)
class Told:
    """How the command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What ``--json`` printed."""
        parsed: dict[str, Any] = json.loads(self.out)
        return parsed

    def texts(self, level: str) -> list[str]:
        """Findings of one level in that document."""
        return [each["text"] for each in self.document["findings"] if each["level"] == level]


def doctor(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None, code: str | None = None
) -> Told:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
    command = ["-c", code] if code else ["-m", "docling_serve"]
    done = subprocess.run(
        python(*command, "doctor", *arguments),
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return Told(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def no_driver(fake_gpu: FakeGpu) -> FakeGpu:
    """A machine whose driver knows no card, whatever this machine has."""
    return fake_gpu


@dataclass(frozen=True)
class Examined:
    """A whole examination, the file with its facts, and the processes that it left."""

    told: Told
    facts: Path
    left: frozenset[int]

    @property
    def environment(self) -> dict[str, str]:
        """For a command that shall know these facts."""
        return {"FACTS": str(self.facts)}


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory, fake_libraries: BuiltLibraries) -> Examined:
    """The doctor on a machine whose driver knows no card."""
    folder = tmp_path_factory.mktemp("examined")
    facts = folder / "facts"
    env = FakeGpu(folder, fake_libraries(())).environment({"FACTS": str(facts)})
    before = descendants()
    told = doctor(folder, env=env, code=_SPY)
    return Examined(told, facts, frozenset(descendants() - before))


def test_a_machine_without_a_gpu(examined: Examined) -> None:
    told = examined.told
    assert told.status == 0, told.out + told.err
    assert "note     No NVIDIA GPU: no GPU. Conversions run on the CPU." in told.out
    assert "ok       OCR: auto runs on ONNX Runtime, cpu." in told.out
    assert "its worker is gone within" in told.out
    assert told.out.endswith("0 problem(s), 0 warning(s)\n")
    assert told.err.endswith("imported: []\n")
    assert not examined.left


def test_two_cards_in_cudas_order_and_who_holds_their_memory(
    tmp_path: Path, fake_gpu: FakeGpu, examined: Examined
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as neighbour:
        held = FakeProcess(neighbour.pid, 2 * GIB)
        slow = FakeCard(1, total_bytes=8 * GIB, used_bytes=GIB, name="Slow one", processes=(held,))
        fast = FakeCard(2, total_bytes=24 * GIB, name="Fast one")
        fake_gpu.play(FakeDriver((slow, fast), cuda_order=(2, 1)))
        env = {"DOCLING_SERVE_USE_SUBPROCESS": "auto", **examined.environment}

        told = doctor(tmp_path, "--json", env=fake_gpu.environment(env), code=_CARDS)
        neighbour.communicate(b"\n")

    assert told.texts("ok")[:3] == [
        "NVIDIA driver 580.95.05, supports CUDA up to 13.0.",
        f"cuda:0: Fast one, {fast.uuid}, 0.0 GiB of 24.0 GiB in use.",
        f"cuda:1: Slow one, {slow.uuid}, 3.0 GiB of 8.0 GiB in use.",
    ]
    assert f"pid {neighbour.pid} (" in "".join(told.texts("note"))
    assert f"not docling-serve) holds 2.0 GiB on cuda:1 ({slow.uuid})." in str(told.texts("note"))
    assert any("another order than nvidia-smi" in text for text in told.texts("note"))
    assert "Subprocess mode is on (auto: Slow one has 8.0 GiB" in str(told.texts("ok"))
    assert any(
        text.startswith("OCR runs on the CPU: this package") for text in told.texts("warning")
    )


def test_a_card_that_torch_cannot_use_is_a_problem(
    tmp_path: Path, fake_gpu: FakeGpu, examined: Examined
) -> None:
    fake_gpu.play(FakeDriver((FakeCard(1),), version="535.183.01", cuda_version=12020))

    env = fake_gpu.environment(examined.environment)
    told = doctor(tmp_path, "--json", env=env, code=_CARDS)

    assert told.status == 1
    assert not told.document["ok"]
    assert "The driver (535.183.01) is too old for torch" in str(told.texts("problem"))


def test_a_driver_that_hangs_is_a_problem_and_not_a_hang(
    tmp_path: Path, fake_gpu: FakeGpu, examined: Examined
) -> None:
    fake_gpu.play(FakeDriver((FakeCard(1),), held=("nvmlInit",)))
    quick = "examination.LIMITS_S['gpu'] = examination.LIMITS_S['mode'] = 5.0\n"

    env = fake_gpu.environment(examined.environment)
    told = doctor(tmp_path, env=env, code=_KNOWN + quick + "app()\n")

    assert told.status == 1
    assert "problem  The NVIDIA driver cannot be read: no answer within 5 s" in told.out


def test_settings_that_a_server_refuses_are_a_problem(tmp_path: Path, no_driver: FakeGpu) -> None:
    env = no_driver.environment({"DOCLING_SERVE_MAX_NUM_PAGES": "many"})

    told = doctor(tmp_path, env=env)

    assert told.status == 1
    assert "DOCLING_SERVE_MAX_NUM_PAGES" in told.out


def test_a_trial_without_a_gpu_is_about_host_memory(
    tmp_path: Path, no_driver: FakeGpu, examined: Examined
) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("# Notes\n\nThe lamp is lit.\n")
    plot = tmp_path / "memory.svg"
    before = descendants()

    told = doctor(
        tmp_path,
        *("--convert", str(notes), "--tasks", "1", "--plot", str(plot)),
        env=no_driver.environment({**OCR_ONLY, **examined.environment}),
        code=_TRIAL,
    )

    assert told.status == 0, told.out + told.err
    assert "note     No GPU could be read: what follows is about host memory." in told.out
    assert "ok       With the mode on, memory was back after each of 1 tasks" in told.out
    assert "Overhead of the mode: " in told.out
    assert told.out.count("1 notes.md") == 2
    assert plot.read_text().startswith("<svg ")
    assert descendants() <= before


def _is_server(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return "docling_serve run" in " ".join(process.cmdline())
    return False


def test_a_trial_that_is_told_to_end_leaves_no_server(tmp_path: Path, examined: Examined) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = subprocess.Popen(
        python("-c", _TRIAL, "doctor", "--convert", "--tasks", "1"),
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(temporary),
            **OCR_ONLY,
            **examined.environment,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with killed_at_end(command):
        children = psutil.Process(command.pid).children
        server = eventually(
            lambda: [one for one in children() if _is_server(one)],
            within_s=LIMIT_S,
            what="a server of the trial",
        )
        below = [*server, *children(recursive=True)]
        command.terminate()

        assert command.wait(LIMIT_S) == 128 + signal.SIGTERM
        assert all(has_ended(one.pid) for one in below)
        assert list(temporary.glob("docling*")) == []  # torch leaves a folder of its own


def test_documents_without_a_trial_are_refused(tmp_path: Path) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("# Notes\n")

    told = doctor(tmp_path, str(notes))

    assert told.status == 2
    assert "--convert" in told.err


@contextmanager
def holding_memory(fake_gpu: FakeGpu, who: str) -> Iterator[None]:
    """Have the fake card list a process below this one while it is what ``who`` says: a ``worker``
    with models, by its size, or the ``server`` of a trial."""
    over = threading.Event()

    def holds(process: psutil.Process) -> bool:
        if who == "server":
            return _is_server(process)
        with suppress(psutil.Error):
            command = " ".join(process.cmdline())
            return "spawn_main" in command and process.memory_info().rss > MODELS
        return False

    def play() -> None:
        while not over.wait(0.1):
            below = [one.pid for one in psutil.Process().children(recursive=True) if holds(one)]
            fake_gpu.play_cards(
                FakeCard(1, processes=tuple(FakeProcess(pid, GIB) for pid in below))
            )

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize(("who", "status"), [("worker", 0), ("server", 1)])
def test_a_trial_on_a_card(
    tmp_path: Path, fake_gpu: FakeGpu, examined: Examined, who: str, status: int
) -> None:
    fake_gpu.play(FakeDriver((FakeCard(1),)))
    # Nothing here can use a fake card: what docling asks is answered before it asks the driver.
    env = fake_gpu.environment({**OCR_ONLY, "DOCLING_DEVICE": "cpu", **examined.environment})
    slip = tmp_path / SLIP
    slip.write_bytes(document(SLIP))

    with holding_memory(fake_gpu, who):
        told = doctor(
            tmp_path, "--convert", str(slip), "--tasks", "1", "--json", env=env, code=_TRIAL
        )

    trials = told.texts("ok") + told.texts("note") + told.texts("problem")
    assert told.status == status, told.out
    listed = "The server process was listed on the GPU."
    assert (listed in told.texts("problem")) is (who == "server")
    if who == "worker":
        assert "The server process was never listed on the GPU, its workers were." in trials
        assert any(text.startswith("With the mode on, memory was back after") for text in trials)
        (task,) = told.document["trials"][1]["tasks"]
        used = [task[moment]["gpu_used"] for moment in ("before", "peak", "after")]
        assert used == [0, GIB, 0]
