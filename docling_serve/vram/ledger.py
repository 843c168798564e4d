"""What our workers were promised on each GPU, and how much of it they have taken.

A worker's share is known exactly where the driver lists its process. Elsewhere (a container where
the list has the host's numbers, WSL2) usage of the GPU above its level before our first worker is
attributed to our workers there: exact for one worker as long as other programs do not change, an
estimate for several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from docling_serve.subprocess_worker.pool.admission import DeviceUse
from docling_serve.vram.admission_rules import TOLERANCE_BYTES, DeviceView
from docling_serve.vram.readings import GpuDevice, GpuReading


@dataclass(eq=False)
class Holding:
    """One worker's permission to use a GPU.

    ``starting`` until its models are loaded, ``running`` while it has a job. ``outcome`` is how its
    last job ended, until that was learned from. ``seen_loaded``: it was measured with its models
    loaded. ``listed``: the driver lists its process. ``ocr_ran`` in one of its jobs. ``shared``:
    its figure was at times an estimate among several workers.
    """

    device_uuid: str
    booked_bytes: int
    kinds: set[str]
    starting: bool = True
    running: bool = False
    pid: int | None = None
    kind: str = ""
    outcome: bool | None = None
    loaded_at: float | None = None
    seen_loaded: bool = False
    listed: bool = False
    ocr_ran: bool = False
    shared: bool = False
    measured: bool = False
    taken_bytes: int = 0
    peak_bytes: int = 0

    @property
    def owed_bytes(self) -> int:
        """Booked and not yet taken."""
        return max(0, self.booked_bytes - self.taken_bytes)

    @property
    def use(self) -> DeviceUse:
        """What is known about its memory."""
        return DeviceUse(self.taken_bytes, self.peak_bytes) if self.measured else DeviceUse()

    def loaded(self, now: float) -> None:
        """Its models are loaded."""
        self.starting = False
        if self.loaded_at is None:
            self.loaded_at = now

    def take(self, taken_bytes: int, began_at: float, *, listed: bool, shared: bool) -> None:
        """Record a reading started at ``began_at``; ``shared`` if it is an estimate among several
        workers."""
        if listed and not self.listed:
            self.listed, self.peak_bytes = True, 0  # discard the earlier estimates
            self.shared = False
        self.shared = self.shared or shared
        self.measured = True
        self.taken_bytes = taken_bytes
        self.peak_bytes = max(self.peak_bytes, taken_bytes)
        if self.loaded_at is not None and began_at >= self.loaded_at:
            # Without a job it may have exited before this reading: then zero proves nothing.
            self.seen_loaded = self.seen_loaded or self.running or taken_bytes > 0


@dataclass
class Ledger:
    """All holdings. ``best_free_bytes`` is the most ever seen free on a GPU."""

    holdings: list[Holding] = field(default_factory=list)
    best_free_bytes: dict[str, int] = field(default_factory=dict)
    #: Bytes free without our workers when a job stopped waiting for more.
    _in_vain: dict[str, int] = field(default_factory=dict)
    #: Bytes in use on a GPU at the last reading, and when the first of our workers there started.
    _used: dict[str, int] = field(default_factory=dict)
    _level: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, uuid: str, booked_bytes: int) -> Holding:
        """Book for a job of ``kind`` on a GPU that was read before."""
        holding = Holding(uuid, booked_bytes, {kind}, starting=booked_bytes > 0, kind=kind)
        if not self.on(uuid):
            self._level[uuid] = self._used[uuid]
        self.holdings.append(holding)
        return holding

    def remove(self, holding: Holding) -> None:
        """Return a booking."""
        self.holdings.remove(holding)

    def on(self, uuid: str) -> list[Holding]:
        """The holdings on one GPU, oldest first."""
        return [each for each in self.holdings if each.device_uuid == uuid]

    def waited_in_vain(self, view: DeviceView) -> None:
        """A job starts on this GPU after its patience ran out."""
        self._in_vain[view.uuid] = view.without_ours_bytes

    def out_of_memory(self, uuid: str) -> None:
        """A job ran out of memory on this GPU: waiting for more there is worthwhile."""
        self._in_vain.pop(uuid, None)

    def note(self, reading: GpuReading, began_at: float) -> None:
        """Update every share from a reading started at ``began_at``."""
        for device in reading.devices:
            best = self.best_free_bytes.get(device.uuid, 0)
            self.best_free_bytes[device.uuid] = max(best, device.free_bytes)
            self._used[device.uuid] = device.used_bytes
            self._share_out(device, _used_by_pid(reading, device.uuid), began_at)

    def views(self, reading: GpuReading, uuids: Sequence[str]) -> list[DeviceView]:
        """The GPUs ``uuids`` as a decision needs them, without those that could not be read."""
        devices = [reading.device(uuid) for uuid in uuids]
        return [self._view(device) for device in devices if device is not None]

    def _view(self, device: GpuDevice) -> DeviceView:
        here = self.on(device.uuid)
        held = sum(each.taken_bytes for each in here)
        in_vain = self._in_vain.get(device.uuid)
        return DeviceView(
            uuid=device.uuid,
            name=device.name,
            total_bytes=device.total_bytes,
            free_bytes=device.free_bytes,
            best_free_bytes=self.best_free_bytes.get(device.uuid, device.free_bytes),
            promised_bytes=sum(each.owed_bytes for each in here),
            held_bytes=held,
            idle_held_bytes=sum(e.taken_bytes for e in here if not (e.running or e.starting)),
            starting=any(each.starting for each in here),
            workers=len(here),
            waited_in_vain=in_vain is not None
            and device.free_bytes + held >= in_vain - TOLERANCE_BYTES,
        )

    def _share_out(self, device: GpuDevice, used_by_pid: dict[int, int], began_at: float) -> None:
        here = self.on(device.uuid)
        if not here:
            return
        level = min(self._level[device.uuid], device.used_bytes)
        self._level[device.uuid] = level
        listed = [each for each in here if each.pid in used_by_pid]
        others = [each for each in here if each not in listed and not each.listed]
        for each in listed:
            assert each.pid is not None
            each.take(used_by_pid[each.pid], began_at, listed=True, shared=False)
        for gone in (each for each in here if each not in listed and each.listed):
            gone.taken_bytes = 0
        if device.of_host:
            return  # growth of the host's memory says nothing about the GPU
        growth = max(0, device.used_bytes - level - sum(each.taken_bytes for each in listed))
        booked = sum(each.booked_bytes for each in others)
        for each in others:
            share = each.booked_bytes / booked if booked else 1 / len(others)
            each.take(int(growth * share), began_at, listed=False, shared=len(others) > 1)


def _used_by_pid(reading: GpuReading, uuid: str) -> dict[int, int]:
    listed = reading.processes.get(uuid, ())
    return {each.pid: each.used_bytes for each in listed if each.used_bytes is not None}
