"""Memory over time in both modes as SVG, drawn without a library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from docling_serve.doctor.trial.memory import Sample
from docling_serve.doctor.trial.run import ModeTrial

_WIDTH, _PANEL, _GAP = 860, 210, 60
_LEFT, _TOP, _RIGHT = 60, 50, 20
_GB = 1e9
# From Okabe and Ito's palette.
_HOST, _GPU, _TASK, _TEXT = "#0072B2", "#D55E00", "#999999", "#333333"


def draw(trials: Sequence[ModeTrial], title: str) -> str:
    """One panel for each trial, on the same scales."""
    seconds = max(trial.samples[-1].time_s for trial in trials) or 1.0
    most = max(
        max(sample.total, sample.gpu_used or 0) for trial in trials for sample in trial.samples
    )
    height = _TOP + len(trials) * (_PANEL + _GAP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12" '
        f'fill="{_TEXT}">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="14" font-weight="bold">{_escaped(title)}</text>',
    ]
    for number, trial in enumerate(trials):
        lines += _panel(trial, _TOP + number * (_PANEL + _GAP), seconds, most * 1.1 / _GB)
    return "\n".join([*lines, "</svg>", ""])


def _panel(trial: ModeTrial, top: float, seconds: float, most: float) -> Iterator[str]:
    def x(at_s: float) -> float:
        return round(_LEFT + at_s / seconds * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(gigabytes: float) -> float:
        return round(top + _PANEL * (1 - gigabytes / most), 1)

    for task in trial.tasks:
        width = max(1.0, x(task.ended_s) - x(task.started_s))
        yield (
            f'<rect x="{x(task.started_s)}" y="{top}" width="{width:.1f}" height="{_PANEL}" '
            f'fill="{_TASK}" fill-opacity="0.25"/>'
        )
    for mark in range(5):
        value = most * mark / 4
        yield (
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value)}" y2="{y(value)}" '
            f'stroke="{_TASK}" stroke-opacity="0.4"/>'
            f'<text x="{_LEFT - 6}" y="{y(value) + 4}" text-anchor="end">{value:.1f}</text>'
        )
    yield (
        f'<text x="{_LEFT}" y="{top - 8}" font-weight="bold">mode {trial.mode}</text>'
        f'<text x="{_LEFT + 90}" y="{top - 8}" fill="{_HOST}">host memory, GB</text>'
    )
    yield _line(trial.samples, lambda one: one.total, _HOST, x, y)
    if trial.idle.gpu_used is not None:
        yield f'<text x="{_LEFT + 210}" y="{top - 8}" fill="{_GPU}">GPU memory, GB</text>'
        yield _line(trial.samples, lambda one: one.gpu_used or 0, _GPU, x, y)
    yield (
        f'<text x="{_WIDTH - _RIGHT}" y="{top + _PANEL + 18}" text-anchor="end">seconds since the '
        f"start of the server: 0 to {seconds:.0f}; grey: a task</text>"
    )


def _line(
    samples: Sequence[Sample],
    figure: Callable[[Sample], int],
    colour: str,
    x: Callable[[float], float],
    y: Callable[[float], float],
) -> str:
    points = " ".join(f"{x(one.time_s)},{y(figure(one) / _GB)}" for one in samples)
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
