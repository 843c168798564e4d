"""``docling-serve doctor``: examine, judge, print."""

from __future__ import annotations

from rich.console import Console

from docling_serve.doctor.examination import examine
from docling_serve.doctor.findings import exit_status
from docling_serve.doctor.judgement import judge
from docling_serve.doctor.report import as_json as to_json
from docling_serve.doctor.report import print_findings, print_summary


def run_doctor(out: Console, *, as_json: bool = False) -> int:
    """Print what is found; returns 0 without a problem, else 1."""
    facts = examine()
    findings = judge(facts)
    if as_json:
        out.print(to_json(facts, findings), markup=False, soft_wrap=True)
    else:
        print_findings(out, findings)
        print_summary(out, findings)
    return exit_status(findings)
