"""What is said of two measured trials, and how they are drawn."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from docling_serve.doctor.findings import Finding, Level, exit_status
from docling_serve.doctor.report import trial_table
from docling_serve.doctor.trial.chart import draw
from docling_serve.doctor.trial.memory import Sample
from docling_serve.doctor.trial.page import NAME, draw_page
from docling_serve.doctor.trial.run import ModeTrial, TrialTask
from docling_serve.doctor.trial.verdict import overhead, promise

MB = 1_000_000
SVG = "{http://www.w3.org/2000/svg}"


def sample(at_s: float, host: int, gpu: int | None, **more: Any) -> Sample:
    """A moment; sizes in MB."""
    used = None if gpu is None else gpu * MB
    return Sample(at_s, host * MB, 0, 0, 1, used, **more)


def trial(mode: Any, gpu: bool = True, **changes: Any) -> ModeTrial:
    """Two tasks of 2 s that take 1 GB and give it back."""
    idle = sample(1, 370, 500 if gpu else None)
    busy = sample(3, 1400, 1500 if gpu else None, listed=1)
    rest = sample(5, 380, 501 if gpu else None)
    tasks = [
        TrialTask("scan.png", "", at_s, at_s + 2, idle, busy, rest, 0.5) for at_s in (2.0, 6.0)
    ]
    samples = [idle, busy, rest]
    return replace(ModeTrial(mode, 1.0, idle, tasks, 3.0, [], samples), **changes)


def with_last_task(one: ModeTrial, **changes: Any) -> ModeTrial:
    return replace(one, tasks=[*one.tasks[:-1], replace(one.tasks[-1], **changes)])


def bad(findings: list[Finding]) -> list[str]:
    return [finding.text for finding in findings if finding.level is Level.PROBLEM]


def said(findings: list[Finding]) -> str:
    return "\n".join(finding.text for finding in findings)


@pytest.mark.parametrize("gpu", [True, False])
def test_a_promise_that_holds(gpu: bool) -> None:
    found = promise(trial("on", gpu), trial("off", gpu))

    assert bad(found) == []
    assert exit_status(found) == 0
    assert "memory was back after each of 2 tasks, at the latest 0.5 s" in said(found)
    assert ("never listed on the GPU, its workers were" in said(found)) is gpu
    assert ("No GPU could be read" in said(found)) is not gpu


@pytest.mark.parametrize(
    ("on", "why"),
    [
        (with_last_task(trial("on"), after=sample(9, 380, 700), back_s=None), "after task 2"),
        (with_last_task(trial("on"), after=sample(9, 1200, 500), back_s=None), "after task 2"),
        (with_last_task(trial("on"), problem="the worker crashed"), "the worker crashed"),
        (trial("on", together_problems=["timed out"]), "in one go: timed out"),
        (
            trial("on", samples=[sample(1, 370, 500, listed=1, gateway_listed=True)]),
            "The server process was listed on the GPU",
        ),
    ],
)
def test_a_promise_that_does_not_hold(on: ModeTrial, why: str) -> None:
    found = promise(on, trial("off"))

    assert len(bad(found)) == 1
    assert why in bad(found)[0]
    assert exit_status(found) == 1


def test_a_task_that_fails_with_the_mode_off_is_a_problem_too() -> None:
    assert len(bad(promise(trial("on"), with_last_task(trial("off"), problem="no text")))) == 1


def test_a_card_that_no_task_used_is_a_warning() -> None:
    calm = trial("on")
    calm = replace(calm, tasks=[replace(one, peak=sample(3, 1400, 500)) for one in calm.tasks])

    found = promise(calm, trial("off"))

    assert [one.text for one in found if one.level is Level.WARNING] == ["No task took GPU memory."]


def test_process_numbers_of_another_namespace_prove_nothing() -> None:
    unseen = trial("on", samples=[sample(1, 370, 500)])

    assert "cannot tell whether the server process" in said(promise(unseen, trial("off")))


def test_overhead_is_that_of_the_guide() -> None:
    off = trial("off", together_s=2.0)
    on = trial(
        "on", together_s=3.0, tasks=[replace(one, ended_s=one.started_s + 3) for one in off.tasks]
    )

    assert overhead(on, off) == (
        "Overhead of the mode: +50% one task at a time (6.0 s, off 4.0 s), +50% all in one go "
        "(3.0 s, off 2.0 s)."
    )


def test_the_table_has_each_task() -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(trial_table(trial("on")))

    rows = [line.split() for line in out.getvalue().splitlines() if "scan.png" in line]
    assert rows[0] == [
        "1",
        "scan.png",
        "2.00",
        *["500", "1,500", "501"],
        *["370", "1,400", "380"],
        "0.5",
        "s",
    ]


@pytest.mark.parametrize("gpu", [True, False])
def test_the_plot_is_svg_with_a_line_for_each_memory(gpu: bool) -> None:
    root = ET.fromstring(draw([trial("off", gpu), trial("on", gpu)], "a <title> & more"))  # noqa: S314

    assert root.tag == f"{SVG}svg"
    lines = root.findall(f"{SVG}polyline")
    assert len(lines) == (4 if gpu else 2)
    assert all(len(line.get("points", "").split()) == 3 for line in lines)
    assert "a <title> & more" in [text.text for text in root.iter(f"{SVG}text")]


def test_the_drawn_page_is_an_image_with_ink(tmp_path: Path) -> None:
    file = draw_page(tmp_path)

    assert file.name == NAME
    with Image.open(file) as page:
        shades = page.convert("L").getextrema()
    assert shades == (30, 248)
