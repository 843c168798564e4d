"""What a mixed run asks for and does to it, drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

from tests.helpers import documents
from tests.helpers.api import document, missing_phrases


class Fault(str, Enum):
    """What happens to a task."""

    NONE = "none"
    #: The worker that has it gets this signal.
    SIGKILL = "sigkill"
    SIGSEGV = "sigsegv"
    SIGSTOP = "sigstop"
    #: Its conversion hangs in native code; the time limit ends it.
    HANG = "hang"
    #: The client deletes it, at once or when it runs.
    CANCEL_WAITING = "cancel_waiting"
    CANCEL_RUNNING = "cancel_running"
    #: The client of a synchronous request goes, in mid-upload or while it waits.
    LEAVE_UPLOAD = "leave_upload"
    LEAVE_WAIT = "leave_wait"


SIGNALS = (Fault.SIGKILL, Fault.SIGSEGV, Fault.SIGSTOP)
CANCELS = (Fault.CANCEL_WAITING, Fault.CANCEL_RUNNING)
LEAVES = (Fault.LEAVE_UPLOAD, Fault.LEAVE_WAIT)

_WEIGHTS = {
    Fault.NONE: 52,
    Fault.SIGKILL: 9,
    Fault.SIGSEGV: 8,
    Fault.SIGSTOP: 1,
    Fault.HANG: 2,
    Fault.CANCEL_WAITING: 7,
    Fault.CANCEL_RUNNING: 8,
    Fault.LEAVE_UPLOAD: 5,
    Fault.LEAVE_WAIT: 7,
}

#: A scan that OCR reads in about a second.
SMALL_SCAN = "small.png"
#: Name -> content; what is known to be in them is in expected.json.
GOOD = {name: document(name) for name in ("notes.md", "page.html", "letter.docx")}
GOOD[SMALL_SCAN] = documents.scanned_png()
#: Name -> content, and a part of what the answer says of it.
BAD = {
    "broken.pdf": (documents.broken_pdf(), "could not load"),
    "locked.pdf": (documents.encrypted_pdf(), "is encrypted"),
    "empty.docx": (b"", "could not load"),
}
_NAMES = {
    "notes.md": 20,
    "page.html": 15,
    "letter.docx": 15,
    SMALL_SCAN: 40,
    "broken.pdf": 4,
    "locked.pdf": 3,
    "empty.docx": 3,
}


def missing(name: str, text: str) -> list[str]:
    """What is known to be in a good document and is not in ``text``."""
    if name == SMALL_SCAN:
        return [word for word in documents.WORDS if word not in text]
    return missing_phrases(name, text)


@dataclass(frozen=True)
class Plan:
    """One task: its document, what happens to it, and a number between 0 and 1 for when."""

    number: int
    name: str
    fault: Fault
    moment: float

    @property
    def content(self) -> bytes:
        return GOOD[self.name] if self.name in GOOD else BAD[self.name][0]


def draw(count: int, seed: int) -> list[Plan]:
    """``count`` plans; the first ones have every fault once, so that a short run has them too."""
    chance = random.Random(seed)
    faults = [*Fault, *chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=count)][:count]
    chance.shuffle(faults)
    names = chance.choices(list(_NAMES), list(_NAMES.values()), k=count)
    plans = []
    for number, (fault, name) in enumerate(zip(faults, names, strict=True)):
        # A signal needs a worker that is at it for a while.
        slow = SMALL_SCAN if fault in (*SIGNALS, Fault.CANCEL_RUNNING, Fault.HANG) else name
        plans.append(Plan(number, slow, fault, chance.random()))
    return plans
