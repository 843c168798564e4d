from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest

from docling_serve.vram.admission_rules import (
    MARGIN_PATIENCE_S,
    Admit,
    DeviceView,
    NeighbourView,
    Patience,
    Plan,
    RequestView,
    Wait,
)
from docling_serve.vram.admission_rules import decide as decide_by
from docling_serve.vram.needs import Need

GIB = 1024**3
NOBODY = NeighbourView()
READY = NeighbourView(may_be_asked=True)
SETTLING = NeighbourView(may_still_free=True)
AFTER_EXHAUSTION = NeighbourView(may_still_free=True, must_answer=True)
PATIENCE = Patience(60.0, 660.0)


def decide(
    requests: Sequence[RequestView], devices: Sequence[DeviceView], neighbours: NeighbourView
) -> Plan:
    return decide_by(requests, devices, neighbours, PATIENCE)


def gpu(
    name: str = "a",
    free: float = 24,
    total: float = 24,
    *,
    best_free: float | None = None,
    promised: float = 0,
    held: float = 0,
    idle_held: float = 0,
    starting: bool = False,
    workers: int = 0,
    waited_in_vain: bool = False,
) -> DeviceView:
    """Sizes in GiB."""
    return DeviceView(
        name,
        "GPU",
        total_bytes=int(total * GIB),
        free_bytes=int(free * GIB),
        best_free_bytes=int((total if best_free is None else best_free) * GIB),
        promised_bytes=int(promised * GIB),
        held_bytes=int(held * GIB),
        idle_held_bytes=int(idle_held * GIB),
        starting=starting,
        workers=workers,
        waited_in_vain=waited_in_vain,
    )


def wants(
    figure: float, number: int = 1, *, margin: float = 0, learned: bool = True, waited_s: float = 0
) -> RequestView:
    return RequestView(number, Need(int(figure * GIB), int(margin * GIB), learned), waited_s)


def one(plan: Plan) -> Admit | Wait:
    [decision] = plan.decisions
    return decision


def test_what_fits_starts_and_is_booked_with_its_margin() -> None:
    decision = one(decide([wants(5, margin=1)], [gpu(free=6)], READY))

    assert decision == Admit(1, "a", 6 * GIB)


def test_the_gpu_with_the_most_available_is_chosen() -> None:
    devices = [gpu("a", 10), gpu("b", 20, promised=12, workers=1), gpu("c", 9)]

    assert one(decide([wants(5)], devices, NOBODY)) == Admit(1, "a", 5 * GIB)


def test_promised_memory_is_not_free() -> None:
    plan = decide([wants(5)], [gpu(free=8, promised=4, workers=1)], NOBODY)

    decision = one(plan)
    assert isinstance(decision, Wait)
    assert decision.for_own_workers
    assert "5.0 GiB of GPU memory needed, 4.0 GiB available on GPU (a)" in decision.reason
    assert "in addition to 4.0 GiB promised" in decision.reason


def test_one_start_at_a_time_on_a_gpu() -> None:
    loading = gpu("a", 20, promised=4, workers=1, starting=True)

    waits = one(decide([wants(5)], [loading], READY))
    elsewhere = one(decide([wants(5)], [loading, gpu("b", 6)], READY))

    assert isinstance(waits, Wait)
    assert waits.cause == "turn"
    assert "another worker is loading its models on GPU (a)" in waits.reason
    assert elsewhere == Admit(1, "b", 5 * GIB)


def test_two_requests_of_one_moment_get_two_gpus_or_wait() -> None:
    both = decide([wants(5, 1), wants(5, 2)], [gpu("a"), gpu("b", 20)], NOBODY)
    second_waits = decide([wants(5, 1), wants(5, 2)], [gpu("a")], NOBODY)

    assert both.decisions == (Admit(1, "a", 5 * GIB), Admit(2, "b", 5 * GIB))
    assert second_waits.decisions[0] == Admit(1, "a", 5 * GIB)
    assert isinstance(second_waits.decisions[1], Wait)
    assert "another worker is loading" in second_waits.decisions[1].reason


def test_waiting_for_a_turn_asks_no_neighbour() -> None:
    plan = decide([wants(5)], [gpu(free=20, starting=True, workers=1)], READY)

    assert not plan.ask_neighbours


def test_neighbours_are_asked_when_memory_is_short_and_only_then() -> None:
    short = decide([wants(5)], [gpu(free=4)], READY)
    enough = decide([wants(5)], [gpu(free=5)], READY)

    assert short.ask_neighbours
    assert one(short).cause == "neighbours"  # type: ignore[union-attr]
    assert not enough.ask_neighbours


def test_neighbours_are_left_alone_where_they_could_not_help() -> None:
    # Our other worker has 20 of 24: without any neighbour there would still be too little.
    plan = decide([wants(5)], [gpu(free=1, held=20, workers=1)], READY)

    decision = one(plan)
    assert not plan.ask_neighbours
    assert isinstance(decision, Wait)
    assert (decision.cause, decision.for_own_workers) == ("own", True)


def test_an_idle_worker_of_ours_goes_before_a_neighbour() -> None:
    idle = gpu(free=2, held=6, idle_held=6, workers=1)
    busy = gpu(free=2, held=6, workers=1)

    assert not decide([wants(5)], [idle], READY).ask_neighbours
    assert decide([wants(5)], [busy], READY).ask_neighbours


def test_a_smaller_job_does_not_starve_one_that_waits_for_our_workers() -> None:
    device = gpu(free=4, held=20, workers=2)

    first, second = decide([wants(10, 1), wants(3, 2)], [device], NOBODY).decisions

    assert isinstance(first, Wait)
    assert isinstance(second, Wait)
    assert "is reserved for a task that has waited longer" in second.reason


def test_a_smaller_job_passes_one_that_waits_for_other_programs() -> None:
    first, second = decide(
        [wants(10, 1), wants(3, 2)], [gpu(free=4, best_free=24)], SETTLING
    ).decisions

    assert isinstance(first, Wait)
    assert second == Admit(2, "a", 3 * GIB)


def test_a_kind_that_needs_no_gpu_never_waits() -> None:
    full = gpu(free=0, promised=5, starting=True, workers=1)

    assert one(decide([wants(0)], [full], READY)) == Admit(1, "a", 0)


def test_the_guess_is_named_with_its_setting() -> None:
    decision = one(decide([wants(3, learned=False)], [gpu(free=2)], NOBODY))

    assert isinstance(decision, Wait)
    assert "subprocess_vram_reserve" in decision.reason
    assert "other programs hold the rest" in decision.reason


def test_a_guess_waits_on_a_gpu_where_others_are_until_its_patience_is_over() -> None:
    full = gpu(free=2, best_free=2)

    def after(waited_s: float) -> Admit | Wait:
        return one(decide([wants(3, learned=False, waited_s=waited_s)], [full], NOBODY))

    assert isinstance(after(PATIENCE.others_s - 1), Wait)
    decision = after(PATIENCE.others_s)
    assert isinstance(decision, Admit)
    assert decision.in_vain
    assert decision.warning == (
        "3.0 GiB needed, 2.0 GiB available on GPU (a) after 60 s (subprocess_vram_patience):"
        " started anyway"
    )


def test_where_one_waited_in_vain_the_next_does_not() -> None:
    request = wants(3, learned=False)

    decision = one(decide([request], [gpu(free=2, waited_in_vain=True)], NOBODY))
    assert isinstance(decision, Admit)
    assert "waiting for more did not help an earlier task" in decision.warning
    assert not decision.in_vain
    # A neighbour may still make room, and beside a worker of ours it would be tight.
    assert decide([request], [gpu(free=2, waited_in_vain=True)], READY).ask_neighbours
    beside = gpu(free=2, waited_in_vain=True, workers=1)
    assert isinstance(one(decide([request], [beside], NOBODY)), Wait)


def test_memory_of_our_own_workers_is_waited_for_longer() -> None:
    busy = gpu(free=2, held=6, workers=1)

    def after(waited_s: float) -> Admit | Wait:
        return one(decide([wants(5, waited_s=waited_s)], [busy], NOBODY))

    early, late, last = map(after, (0, PATIENCE.others_s, PATIENCE.own_s))
    assert isinstance(early, Wait)
    assert (early.for_own_workers, early.overdue) == (True, False)
    assert isinstance(late, Wait)
    assert (late.for_own_workers, late.overdue) == (True, True)
    assert isinstance(last, Admit)


def test_a_neighbour_that_is_always_about_to_unload_does_not_hold_a_job_for_ever() -> None:
    request = wants(3, learned=False, waited_s=PATIENCE.others_s)

    for neighbours in (READY, SETTLING):
        assert isinstance(one(decide([request], [gpu(free=2)], neighbours)), Admit)


_DEVICES = [
    gpu(
        free=free,
        held=held,
        idle_held=held if idle else 0,
        promised=promised,
        best_free=best_free,
        starting=starting,
        workers=1 if held or promised or starting else 0,
        waited_in_vain=in_vain,
    )
    for free, held, idle, promised, best_free, starting, in_vain in itertools.product(
        (0, 2, 8), (0, 6, 16), (False, True), (0, 4), (2, 24), (False, True), (False, True)
    )
    if held or not idle
]
_OTHERS = [replace(device, uuid="b") for device in _DEVICES[::6]]


@pytest.mark.parametrize(
    "neighbours",
    [NOBODY, READY, SETTLING, AFTER_EXHAUSTION],
    ids=["none", "ready", "asked", "exhausted"],
)
@pytest.mark.parametrize("learned", [False, True], ids=["guess", "learned"])
def test_in_no_state_does_a_job_wait_without_a_bound(
    neighbours: NeighbourView, learned: bool
) -> None:
    alone_and_beside: list[list[DeviceView]] = [[], *([other] for other in _OTHERS)]
    for device, others, figure in itertools.product(_DEVICES, alone_and_beside, (1, 5, 30)):
        devices = [device, *others]
        late, last = (
            decide(
                [wants(figure, 1, learned=learned, waited_s=s), wants(5, 2)], devices, neighbours
            )
            for s in (PATIENCE.others_s, PATIENCE.own_s)
        )
        assert isinstance(last.decisions[0], Admit), (devices, figure)
        first = late.decisions[0]
        # Until then it waits for nothing but workers of ours: for their memory, or their loading.
        if isinstance(first, Wait):
            assert first.overdue or any(each.starting for each in devices), (devices, figure)


def test_after_a_job_ran_out_of_memory_the_next_waits_for_the_neighbours_answers() -> None:
    decision = one(decide([wants(5)], [gpu(free=20)], AFTER_EXHAUSTION))
    assert isinstance(decision, Wait)
    assert decision.cause == "neighbours"
    assert isinstance(one(decide([wants(5)], [gpu(free=20)], SETTLING)), Admit)
    late = wants(5, waited_s=PATIENCE.others_s)
    assert isinstance(one(decide([late], [gpu(free=20)], AFTER_EXHAUSTION)), Admit)


def test_more_than_any_gpu_has_starts_when_the_gpu_is_as_free_as_ever() -> None:
    request = wants(30, learned=False)
    as_ever = one(decide([request], [gpu("a", free=22.97, best_free=23)], NOBODY))

    assert isinstance(as_ever, Admit)
    assert as_ever.warning == "30.0 GiB needed, 23.0 GiB available on GPU (a) and never more: " + (
        "started anyway"
    )
    occupied = gpu("a", free=20, best_free=23)
    ours = gpu("a", free=23, best_free=23, workers=1)
    for device in (occupied, ours):
        assert isinstance(one(decide([request], [device], NOBODY)), Wait)


def test_more_than_one_gpu_but_not_the_other_waits_for_the_other() -> None:
    devices = [gpu("small", 8, 8), gpu("large", 10, 24)]

    assert isinstance(one(decide([wants(20, learned=False)], devices, NOBODY)), Wait)


def test_neighbours_go_before_a_start_with_too_little() -> None:
    # Learned on this GPU beside a program that was always there, and now out of memory.
    device, request = gpu(free=4, best_free=4), wants(5)

    assert decide([request], [device], READY).ask_neighbours
    assert isinstance(one(decide([request], [device], SETTLING)), Wait)
    decision = one(decide([request], [device], NOBODY))
    assert isinstance(decision, Admit)
    assert "and never more" in decision.warning


def test_a_start_with_too_little_waits_for_our_own_workers_first() -> None:
    devices = [gpu("a", free=4, total=24, best_free=4), gpu("b", free=1, held=20, workers=1)]

    assert isinstance(one(decide([wants(5)], devices, NOBODY)), Wait)


def test_the_margin_is_given_up_after_a_while() -> None:
    device = gpu(free=4, best_free=24)

    def after(waited_s: float, figure: float = 3.9) -> Admit | Wait:
        return one(decide([wants(figure, margin=0.4, waited_s=waited_s)], [device], NOBODY))

    assert isinstance(after(MARGIN_PATIENCE_S - 1), Wait)
    assert isinstance(after(MARGIN_PATIENCE_S, figure=4.1), Wait)
    decision = after(MARGIN_PATIENCE_S)
    assert isinstance(decision, Admit)
    assert "started without a margin" in decision.warning
    assert decision.booked_bytes == int(3.9 * GIB) + int(0.4 * GIB)
