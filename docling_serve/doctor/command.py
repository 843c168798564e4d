"""``docling-serve doctor``: examine, judge, try, print."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from docling_serve.doctor.examination import examine
from docling_serve.doctor.findings import Area, Finding, exit_status, problem
from docling_serve.doctor.judgement import judge
from docling_serve.doctor.report import as_json as to_json
from docling_serve.doctor.report import print_findings, print_summary, trial_table
from docling_serve.doctor.trial.chart import draw
from docling_serve.doctor.trial.page import draw_page
from docling_serve.doctor.trial.run import ModeTrial, run_trial
from docling_serve.doctor.trial.server import TrialError
from docling_serve.doctor.trial.verdict import promise
from docling_serve.process.shutdown import unwinding_at_sigterm


@dataclass(frozen=True)
class TrialRequest:
    """The arguments of ``--convert``: ``tasks`` conversions of ``documents``, taken in turn;
    without documents, of a generated page. ``plot`` is the file for the plot."""

    documents: Sequence[Path]
    tasks: int
    plot: Path | None = None


@unwinding_at_sigterm()
def run_doctor(
    out: Console, err: Console, *, as_json: bool = False, trial: TrialRequest | None = None
) -> int:
    """Print the findings; returns 0 without a problem, else 1."""
    facts = examine()
    findings = judge(facts)
    more: dict[str, Any] = {}
    if not as_json:
        print_findings(out, findings)
    if trial is not None:
        trials, found = _try(err, trial)
        findings += found
        more["trials"] = [_without_samples(one) for one in trials]
        if not as_json:
            print_findings(out, found)
            for one in trials:
                out.print(trial_table(one))
    if as_json:
        out.print(to_json(facts, findings, **more), markup=False, soft_wrap=True)
    else:
        print_summary(out, findings)
    return exit_status(findings)


def _try(err: Console, asked: TrialRequest) -> tuple[list[ModeTrial], list[Finding]]:
    """Both modes, and the findings about them."""
    with tempfile.TemporaryDirectory(prefix="docling-serve-doctor-") as folder:
        known = [path.resolve() for path in asked.documents] or [draw_page(Path(folder))]
        documents = [known[number % len(known)] for number in range(asked.tasks)]
        trials: list[ModeTrial] = []

        def say(text: str) -> None:
            err.print(text, style="dim", markup=False)

        try:
            trials.append(run_trial("off", documents, say))
            trials.append(run_trial("on", documents, say))
        except TrialError as exc:
            advice = "Start the server with these settings and read its log."
            return trials, [problem(Area.CONVERSION, f"The trial stopped: {exc}", advice)]
    off, on = trials
    if asked.plot is not None:
        title = "Memory of docling-serve while it converts the same documents"
        asked.plot.write_text(draw(trials, title), encoding="utf-8")
        say(f"plot: {asked.plot}")
    return trials, promise(on, off)


def _without_samples(trial: ModeTrial) -> dict[str, Any]:
    return dataclasses.asdict(dataclasses.replace(trial, samples=[]))
