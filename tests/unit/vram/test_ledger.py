from __future__ import annotations

from docling_serve.subprocess_worker.pool.admission import DeviceUse
from docling_serve.vram.ledger import Holding, Ledger
from docling_serve.vram.readings import GpuDevice, GpuProcess, GpuReading, GpuState

GIB = 1024**3


def reading(used: float, processes: dict[int, float | None] | None = None) -> GpuReading:
    """One GPU of 24 GiB; sizes in GiB. Without ``processes`` the driver gives no list."""
    device = GpuDevice(0, "GPU-a", "GPU", 24 * GIB, int(used * GIB), int((24 - used) * GIB))
    listed = {
        "GPU-a": tuple(
            GpuProcess(pid, None if size is None else int(size * GIB))
            for pid, size in (processes or {}).items()
        )
    }
    return GpuReading(GpuState.KNOWN, (device,), {} if processes is None else listed)


class Books:
    """A ledger that was shown what was in use before, and takes grants of so many GiB."""

    def __init__(self, used_before: float = 2) -> None:
        self.ledger = Ledger()
        self.ledger.note(reading(used_before), 0.0)

    def worker(self, booked: float, pid: int, *, loaded: bool = True) -> Holding:
        holding = self.ledger.add("ocr", "GPU-a", int(booked * GIB))
        holding.pid, holding.running = pid, True
        if loaded:
            holding.loaded(0.0)
        return holding

    def note(self, used: float, processes: dict[int, float | None] | None = None) -> None:
        self.ledger.note(reading(used, processes), 1.0)

    def view(self, used: float, processes: dict[int, float | None] | None = None) -> list[float]:
        """Promised, held and idle GiB after a reading."""
        now = reading(used, processes)
        self.ledger.note(now, 1.0)
        [view] = self.ledger.views(now, ["GPU-a", "GPU-not-read"])
        sizes = (view.promised_bytes, view.held_bytes, view.idle_held_bytes)
        return [round(size / GIB, 2) for size in sizes]


def taken(*holdings: Holding) -> list[float]:
    return [round(each.taken_bytes / GIB, 2) for each in holdings]


def test_a_booking_is_promised_until_it_is_taken() -> None:
    books = Books()
    worker = books.worker(5, pid=7)

    assert books.view(2, {}) == [5, 0, 0]
    assert books.view(4, {7: 2}) == [3, 2, 0]
    assert books.view(8, {7: 6}) == [0, 6, 0]
    worker.running = False
    assert books.view(8, {7: 6}) == [0, 6, 6]
    books.ledger.remove(worker)
    assert books.view(2, {}) == [0, 0, 0]


def test_a_listed_worker_has_its_own_figure_whatever_others_do() -> None:
    books = Books()
    worker = books.worker(5, pid=7)
    books.note(19, {7: 3, 99: 14})
    books.note(10, {7: 2, 99: 6})

    assert (worker.taken_bytes, worker.peak_bytes) == (2 * GIB, 3 * GIB)
    assert not worker.shared


def test_an_unlisted_worker_is_measured_by_what_the_gpu_has_in_use_beyond_before() -> None:
    books = Books(used_before=2)
    worker = books.worker(5, pid=7)
    cases: list[dict[int, float | None] | None] = [{4711: 3}, {7: None}, None]
    for processes in cases:
        books.note(5, processes)
        assert taken(worker) == [3]
    assert not worker.listed


def test_a_program_that_leaves_lowers_the_level() -> None:
    books = Books(used_before=10)
    worker = books.worker(5, pid=7)
    books.note(1)
    books.note(4)

    assert taken(worker) == [3]


def test_unlisted_workers_share_the_growth_as_an_estimate() -> None:
    books = Books(used_before=2)
    large, small = books.worker(6, pid=7), books.worker(2, pid=8)
    books.note(6)

    assert taken(large, small) == [3, 1]
    assert large.shared
    assert small.shared


def test_listed_and_unlisted_workers_do_not_count_twice() -> None:
    books = Books(used_before=2)
    listed, unlisted = books.worker(6, pid=7), books.worker(2, pid=8)
    books.note(9, {7: 6})

    assert taken(listed, unlisted) == [6, 1]
    assert not unlisted.shared


def test_an_estimate_made_before_the_process_was_listed_is_forgotten() -> None:
    books = Books(used_before=2)
    worker = books.worker(5, pid=7)
    books.note(12, {99: 10})  # another program grew before the worker had its context
    assert taken(worker) == [10]
    books.note(14, {7: 2, 99: 10})

    assert worker.peak_bytes == 2 * GIB


def test_a_listed_worker_that_is_no_longer_listed_is_gone() -> None:
    books = Books(used_before=2)
    worker = books.worker(5, pid=7)
    books.note(5, {7: 3})
    books.note(9, {99: 7})

    assert taken(worker) == [0]
    assert worker.peak_bytes == 3 * GIB
    assert worker.owed_bytes == 5 * GIB


def test_the_level_is_taken_anew_when_all_workers_were_released() -> None:
    books = Books(used_before=2)
    first = books.worker(5, pid=7)
    books.ledger.remove(first)
    books.note(10)
    worker = books.worker(5, pid=8)
    books.note(11)

    assert taken(worker) == [1]


def test_use_is_unknown_until_it_was_measured() -> None:
    books = Books(used_before=2)
    worker = books.worker(5, pid=7)

    assert worker.use == DeviceUse()
    books.note(5, {7: 3})
    books.note(4, {7: 2})
    assert worker.use == DeviceUse(2 * GIB, 3 * GIB)


def test_only_a_reading_begun_after_the_models_were_loaded_has_seen_them() -> None:
    books = Books()
    worker = books.worker(5, pid=7, loaded=False)
    books.ledger.note(reading(5, {7: 3}), 1.0)
    worker.loaded(2.0)
    books.ledger.note(reading(5, {7: 3}), 1.9)
    assert not worker.seen_loaded
    books.ledger.note(reading(6, {7: 4}), 2.0)
    assert worker.seen_loaded


def test_a_reading_after_the_job_that_finds_nothing_has_not_seen_the_models() -> None:
    books = Books()
    worker = books.worker(5, pid=7)
    worker.running = False
    books.note(2, {})
    assert not worker.seen_loaded
    worker.running = True
    books.note(2, {})
    assert worker.seen_loaded, "a job that runs without a context uses no GPU"


def test_the_most_that_was_ever_free_is_kept() -> None:
    ledger = Ledger()
    for used in (5, 2, 20):
        ledger.note(reading(used), 0.0)

    [view] = ledger.views(reading(20), ["GPU-a"])
    assert (view.free_bytes, view.best_free_bytes) == (4 * GIB, 22 * GIB)


def test_a_booking_of_nothing_does_not_count_as_a_start() -> None:
    books = Books()

    assert not books.worker(0, pid=7, loaded=False).starting
    assert books.worker(1, pid=8, loaded=False).starting
