"""From measured values to the lines, goals and pages of the benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.goals import verdicts
from benchmarks.measures import default
from benchmarks.measures import isolation as ways
from benchmarks.measures.memory import OVER_TASKS
from benchmarks.results import Results
from benchmarks.rows import SECTIONS, Row, line_of, sections, slowest_of_median
from benchmarks.servers import OURS, UPSTREAM

ROWS = [row for section in SECTIONS for row in section.rows]
READY = next(row for row in ROWS if row.measure == "start.ready_s")


@pytest.fixture
def results() -> Results:
    made = Results(machine={"Processor": "two"}, setup={"Rounds": "2"})
    for number, (ours, theirs) in enumerate([(2.0, 10.0), (4.0, 10.0), (3.0, 12.0)], start=1):
        made.add("start.ready_s", OURS, number, [ours])
        made.add("start.ready_s", UPSTREAM, number, [theirs])
    return made


def held(results: Results, text: str) -> bool | None:
    return next(v.held for v in verdicts(results) if v.goal.text.startswith(text))


def seen(results: Results, text: str) -> float | None:
    return next(v.value for v in verdicts(results) if v.goal.text.startswith(text))


def test_a_ratio_is_the_median_of_the_ratios_of_pairs(results: Results) -> None:
    line = line_of(READY, results)

    assert line is not None
    assert line.ratio is not None
    assert (line.ratio.median, line.ratio.low, line.ratio.high) == (0.25, 0.2, 0.4)


def test_a_round_with_one_server_only_makes_no_pair(results: Results) -> None:
    results.add("start.ready_s", OURS, 4, [100.0])

    line = line_of(READY, results)

    assert line is not None
    assert line.ratio is not None
    assert (line.subject.count, line.ratio.count) == (4, 3)


def test_a_figure_is_taken_within_each_round() -> None:
    results = Results()
    results.add("small.ms", OURS, 1, [1.0] * 99 + [50.0])
    results.add("small.ms", OURS, 2, [1.0] * 99 + [70.0])
    p50, p99 = (row for row in ROWS if row.measure == "small.ms")

    shown = [line_of(row, results) for row in (p50, p99)]

    assert [line.subject.median for line in shown if line] == [1.0, pytest.approx(1.59)]


def test_only_what_was_measured_is_shown(results: Results) -> None:
    ((section, shown),) = sections(results)

    assert section is SECTIONS[0]
    assert [line.row.measure for line in shown] == ["start.ready_s"]
    assert line_of(Row("", "never", "s"), results) is None


def test_fan_out_stands_against_the_first_way_measured() -> None:
    results = Results()
    results.add("fanout.pages_per_s", "1 worker", 1, [0.5])
    results.add("fanout.pages_per_s", "2 workers", 1, [0.9])

    ((_, shown),) = sections(results)
    ratios = [line.ratio.median for line in shown if line.ratio]

    assert ratios == [1.0, pytest.approx(1.8)]


def test_a_goal_is_reached_missed_or_not_measured(results: Results) -> None:
    for number in (1, 2, 3):
        results.add("idle.rss_mb", OURS, number, [419.0])

    assert held(results, "Start to ready") is False
    assert held(results, "Memory at rest") is True
    assert held(results, "Memory at rest after the last request") is None
    assert held(results, "Pages/s") is None


def test_the_slowest_pause_counts() -> None:
    results = Results()
    for number in (1, 2):
        for pause, seconds in ((1, 0.05), (10, 0.3), (60, 0.1)):
            results.add(f"alone.docx_s@{pause}", OURS, number, [seconds])
            results.add(f"alone.docx_s@{pause}", UPSTREAM, number, [2.0])

    assert seen(results, "DOCX after any pause") == pytest.approx(0.15)
    assert seen(results, "Markdown after any pause") is None


def test_a_page_alone_is_held_against_one_with_its_models_loaded() -> None:
    results = Results()
    results.add("alone.page_s@1", OURS, 1, [1.5])
    assert seen(results, "Scanned page after any pause, over") is None

    results.add("page.s", OURS, 1, [1.3, 1.1, 1.2])

    assert seen(results, "Scanned page after any pause, over") == pytest.approx(0.3)


def test_the_slowest_answer_is_told_as_a_multiple_of_the_median() -> None:
    assert slowest_of_median([1.0, 3.0, 2.0]) == 1.5
    results = Results()
    results.add("spaced.markdown_s", OURS, 1, [0.1, 0.1, 0.1, 0.12])
    results.add("spaced.page_s", OURS, 1, [1.0, 1.0, 1.0, 1.4])

    assert seen(results, "Requests every 2 s") == pytest.approx(1.4)


def test_memory_after_the_last_request_is_held_against_that_before() -> None:
    results = Results()
    results.add("idle.rss_mb", OURS, 1, [400.0])
    results.add("after.rss_mb", OURS, 1, [440.0])

    assert held(results, "Memory at rest") is False
    assert seen(results, "Memory at rest after the last request") == pytest.approx(1.1)


def test_a_lean_start_stands_beside_a_full_one(tmp_path: Path) -> None:
    results = Results()
    results.add("spawn.s", default.LEAN, 1, [2.0])
    results.add("spawn.s", default.FULL, 1, [8.0])

    text = report.markdown(results, [], tmp_path)

    assert f"| {default.LEAN} | 2.00 s | {default.FULL}: 8.00 s | 0.250 x |" in text.replace(
        "Start by spawn: ", ""
    )
    assert held(results, "Start by spawn") is True


def test_a_goal_may_ask_for_more() -> None:
    results = Results()
    results.add("throughput.pages_per_s@2", OURS, 1, [1.3])
    results.add("throughput.pages_per_s@2", UPSTREAM, 1, [1.0])

    assert held(results, "Pages/s") is True


def test_overhead_is_told_in_percent() -> None:
    results = Results()
    results.add("isolation.scan_s", ways.IN_PROCESS, 1, [10.0])
    results.add("isolation.scan_s", ways.WARM, 1, [10.1])

    assert seen(results, "Warm worker") == pytest.approx(1.0)


def test_growth_counts_only_beyond_its_margin() -> None:
    results = Results()
    results.add("memory.tree_slope_mb", OURS, 1, [0.2])
    results.add("memory.tree_slope_margin_mb", OURS, 1, [0.3])

    assert seen(results, "Memory growth") == 0.0


def test_without_a_gpu_its_memory_is_not_measured(results: Results) -> None:
    assert seen(results, "GPU memory") is None


def test_gpu_memory_counts_from_what_others_held_before() -> None:
    results = Results()
    results.add("memory.before_gpu_mb", OURS, 1, [400.0])
    results.add("memory.rest_gpu_mb", OURS, 1, [930.0])

    assert seen(results, "GPU memory") == 530.0


def test_results_survive_their_file(results: Results, tmp_path: Path) -> None:
    results.draw(OVER_TASKS, OURS, ("tasks", "MB"), [(1.0, 2.0), (2.0, 3.5)])
    results.notes.append("a step failed")
    results.write(tmp_path / "run.json")

    assert Results.read(tmp_path / "run.json") == results


def test_results_of_another_schema_are_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema": 0}')

    with pytest.raises(ValueError, match="schema 0"):
        Results.read(tmp_path / "run.json")


def test_the_report_replaces_the_one_before(results: Results, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, end = report.REPORT_MARKS
    page.write_text(f"# Before\n{begin}\nold\n{end}\nafter\n")
    text = report.markdown(results, [tmp_path / "run-memory.png"], tmp_path)

    report.put_into(page, text)

    written = page.read_text()
    assert written.startswith("# Before\n")
    assert written.endswith("after\n")
    assert "old" not in written
    assert "| Start to ready | 3.00 s (2.00 to 4.00) | 10.0 s (10.0 to 12.0) |" in written
    assert "![run memory](run-memory.png)" in written


def test_the_summary_has_medians_of_what_was_measured(results: Results) -> None:
    results.add("alone.docx_s@10", OURS, 1, [0.06])
    results.add("alone.docx_s@60", OURS, 1, [0.07])

    _, _, *rows = report.summary(results).splitlines()

    assert rows == [
        "| Start to ready | 3.00 s | 10.0 s |",
        "| DOCX after a pause of 10 s | 0.060 s |  |",
    ]


def test_ways_of_this_build_have_a_table_of_their_own(results: Results, tmp_path: Path) -> None:
    results.add("isolation.scan_s", ways.IN_PROCESS, 1, [10.0])
    results.add("isolation.scan_s", ways.WARM, 1, [11.0])

    text = report.markdown(results, [], tmp_path)

    _, own = text.split("### Ways to run this build")
    own, _ = own.split("### Goals")
    assert f"| Scan: {ways.WARM} | 11.0 s | {ways.IN_PROCESS}: 10.0 s | 1.10 x |" in own
    assert "| Start to ready |" not in own


def test_a_page_without_a_place_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Mine\n")

    with pytest.raises(ValueError, match="no place"):
        report.put_into(page, "text")
    assert page.read_text() == "# Mine\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.5, "1,234"), (99.44, "99.4"), (9.876, "9.88"), (0.0163, "0.016"), (-0.5, "-0.500")],
)
def test_numbers_have_three_figures_that_count(value: float, text: str) -> None:
    assert report.number(value) == text


def test_plots_are_drawn_of_what_is_there(results: Results, tmp_path: Path) -> None:
    from benchmarks import plots  # takes a second, which each process of pytest would pay

    assert plots.draw_all(results, tmp_path, "run") == []
    results.draw(OVER_TASKS, OURS, ("tasks", "MB"), [(1.0, 2.0)])
    results.add("small.ms", OURS, 1, [3.0, 4.0])

    drawn = plots.draw_all(results, tmp_path, "run")

    assert [file.name for file in drawn] == ["run-memory.png", "run-latency.png"]
    assert all(file.stat().st_size for file in drawn)
