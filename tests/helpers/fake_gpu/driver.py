"""What a fake driver plays, and what was asked of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

GIB = 1024**3
MIB = 1024**2

#: Numbers of nvml.h that the fakes can answer with.
NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
GPU_IS_LOST = 15
UNKNOWN = 999

_LIMIT_S = 500


@dataclass(frozen=True)
class FakeProcess:
    """A process on a card. Its memory counts as used, and is not told where ``told`` is False.

    It is listed as ``pid`` until process ``lives_with`` (default: ``pid``) of this machine has
    ended; 0: for good. ``mps``: it is a client of a Multi-Process Service.
    """

    pid: int
    used_bytes: int
    told: bool = True
    lives_with: int | None = None
    mps: bool = False

    def line(self, card: int) -> str:
        """How the libraries read it."""
        lives_with = self.pid if self.lives_with is None else self.lives_with
        kind = "mps" if self.mps else "process"
        return f"{kind} {card} {self.pid} {self.used_bytes} {int(self.told)} {lives_with}"


@dataclass(frozen=True)
class FakeCard:
    """A card. ``used_bytes`` is what others hold there, beside ``processes``."""

    number: int
    total_bytes: int = 8 * GIB
    used_bytes: int = 0
    reserved_bytes: int = 0
    name: str = "Fake GPU"
    processes: tuple[FakeProcess, ...] = ()

    @property
    def uuid(self) -> str:
        """As NVML writes it."""
        return f"GPU-{self.number:08x}-fa4e-0000-0000-000000000000"

    @property
    def bus_id(self) -> str:
        """As NVML writes it: in the order of numbers."""
        return f"00000000:{self.number:02X}:00.0"


@dataclass(frozen=True)
class FakeDriver:
    """All that is played. NVML counts the cards by number.

    ``cuda_order``: numbers of the cards as CUDA counts them by default, the fastest first; without
    any, CUDA finds no device, and what asks torch converts on the CPU. ``answers`` maps a function
    to the number of the error that it answers with, on all cards or, as ``(function, uuid)``, on
    one; the functions that open NVML are all called ``nvmlInit``. Functions in ``held`` return
    when something without them is played.
    """

    cards: tuple[FakeCard, ...] = ()
    version: str = "580.95.05"
    cuda_version: int = 13000
    cuda_order: tuple[int, ...] = ()
    answers: Mapping[str | tuple[str, str], int] = field(default_factory=dict)
    held: tuple[str, ...] = ()

    def text(self) -> str:
        """How the libraries read it."""
        cards = sorted(self.cards, key=lambda card: card.number)
        uuids = {card.number: card.uuid for card in cards}
        lines = [f"driver {self.version} {self.cuda_version}"]
        for card in cards:
            sizes = f"{card.total_bytes} {card.used_bytes} {card.reserved_bytes}"
            lines.append(f"card {card.uuid} {card.bus_id} {sizes} {card.name}")
        for index, card in enumerate(cards):
            lines += [process.line(index) for process in card.processes]
        for called, number in self.answers.items():
            function, uuid = (called, "*") if isinstance(called, str) else called
            lines.append(f"answer {function} {uuid} {number}")
        lines += [f"hold {function}" for function in self.held]
        if self.cuda_order:
            lines.append("cuda " + " ".join(uuids[number] for number in self.cuda_order))
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Call:
    """A call of a library: by which process, with which ``CUDA_VISIBLE_DEVICES`` ("(unset)"
    without it), and from which file of code ("?" unknown). ``loaded`` is the load of libcuda."""

    pid: int
    function: str
    visible: str
    caller: str


class FakeGpu:
    """A folder with both libraries, and what they play."""

    def __init__(self, folder: Path, libraries: Path) -> None:
        self.folder = folder
        for library in libraries.glob("lib*"):
            (folder / library.name).symlink_to(library)
        self.play(FakeDriver())

    def play(self, driver: FakeDriver) -> None:
        """From now on, in all processes."""
        aside = self.folder / "played.new"
        aside.write_text(driver.text())
        aside.rename(self.folder / "played")
        self.played = driver

    def play_cards(self, *cards: FakeCard) -> None:
        """The same driver with these cards."""
        fields = {**vars(self.played), "cards": cards}
        self.play(FakeDriver(**fields))

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """What a process needs to find the libraries, besides ``base`` (default: nothing)."""
        before = (base or {}).get("LD_LIBRARY_PATH") or os.environ.get("LD_LIBRARY_PATH")
        path = os.pathsep.join(filter(None, [str(self.folder), before]))
        return {**(base or {}), "LD_LIBRARY_PATH": path}

    def calls(self, function: str | None = None) -> list[Call]:
        """What was called so far, in order; of one function only, if named."""
        log = self.folder / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        found = []
        for line in lines:
            pid, called, visible, caller = line.split("\t")
            if function in (None, called):
                found.append(Call(int(pid), called, visible, caller))
        return found

    def python(self, code: str, env: Mapping[str, str] | None = None) -> str:
        """Run ``code`` in a Python process with the fake driver; returns what it printed.

        Raises:
            AssertionError: it failed; with what it wrote.
        """
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("CUDA_")}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=self.environment({**inherited, **(env or {})}),
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout.strip()
