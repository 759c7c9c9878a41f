"""The report of a study: the right figures, in a page, in Markdown and as JSON, from result files alone."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean

import pytest
from matplotlib.axes import Axes

from scope_rlvr.core.errors import UserError
from scope_rlvr.report.charts import Chart, Key
from scope_rlvr.study.analysis import Analysis, at_tokens, budgets, measures_after
from scope_rlvr.study.charts import SWEPT, charts_of
from scope_rlvr.study.content import notes
from scope_rlvr.study.folder import StudyFolder
from scope_rlvr.study.plan import Study
from scope_rlvr.study.report import write_report
from scope_rlvr.study.results import RunResult, write_result
from scope_rlvr.study.statistics import holm, paired_difference
from tests.example_study import STUDY, make_study

VOID = {"meta", "link", "br", "img", "hr", "input"}
SWEEP = '[sweep]\nkey = "scorer.noise"\nvalues = [0.1, 0.4]\narms = ["scope", "luffy"]\n'


class Checker(HTMLParser):
    """Elements that are closed in order, ids, and everything that would be fetched."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.fetched: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._attributes(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._attributes(tag, attrs)

    def _attributes(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids[str(value)] += 1
            if name in ("src", "href", "xlink:href") and not str(value).startswith("#"):
                self.fetched.append(f"{tag} {value}")

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def analysis_of(study: Study, folder: StudyFolder) -> Analysis:
    return Analysis(study, folder.results_of(study))


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, StudyFolder]:
    study, folder = make_study(tmp_path_factory.mktemp("example"))
    write_report(study, folder)
    return study, folder


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds, and most tests are about words and figures."""
    monkeypatch.setattr("scope_rlvr.study.report.charts_of", lambda analysis: [])


def test_the_page_is_whole_and_fetches_nothing(example: tuple[Study, StudyFolder]) -> None:
    page = Checker((example[1].path / "report.html").read_text("utf-8"))
    assert page.open == []
    assert page.fetched == []
    assert [name for name, count in page.ids.items() if count > 1] == []
    assert {"result", "differences", "equal-tokens", "reach", "budgets", "diversity", "curves"} <= set(page.ids)
    html = (example[1].path / "report.html").read_text("utf-8")
    links = set(re.findall(r'(?:href="#|url\(#)([^")]+)', html))
    assert links <= set(page.ids)
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    # No colour of a drawing is right in one scheme only.
    drawn = "".join(re.findall(r"<svg .*?</svg>", html, re.DOTALL))
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawn)) <= {"#000000"}


def test_plots_are_there_as_svg_and_png(example: tuple[Study, StudyFolder]) -> None:
    plots = example[1].path / "plots"
    names = {file.stem for file in plots.glob("*.svg")}
    assert names == {file.stem for file in plots.glob("*.png")}
    assert {
        "reduction-6-accuracy-by-steps",
        "reduction-6-accuracy-by-tokens",
        "reduction-9-pass_at_8-by-steps",
        "reduction-9-pass_at_8-by-tokens",
        "reduction-6-diversity-text_bleu-by-steps",
        "policy-entropy-by-steps",
        "salvage-rate-by-steps",
        "gradient-teacher_token_share-by-steps",
    } <= names
    svg = ET.parse(plots / "reduction-6-accuracy-by-steps.svg").getroot()
    words = {"".join(node.itertext()) for node in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"SCOPE", "LUFFY", "GRPO", "optimiser steps", "reduction-6, accuracy"} <= words
    assert (plots / "reduction-6-accuracy-by-steps.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("num_lines", "words"), [(2, 2), (6, 9), (13, 30), (33, 4)])
def test_every_name_can_be_read_below_a_plot(num_lines: int, words: int) -> None:
    keys = [Key(f"arm {i} " + "says " * words, "blue") for i in range(num_lines)]

    def draw(axes: Axes) -> None:
        for i, key in enumerate(keys):
            axes.plot([0, 1], [0, i], **key.line)

    figure = Chart("name", "title", keys, draw, "steps").figure()
    figure.draw_without_rendering()
    shown = figure.legends[0].get_window_extent()
    assert shown.x0 >= 0
    assert shown.x1 <= figure.bbox.width
    assert shown.y0 >= 0
    assert figure.axes[0].get_window_extent().height > 100
    assert len(figure.legends[0].get_texts()) == num_lines


def test_the_same_results_give_the_same_files(
    example: tuple[Study, StudyFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, folder = example
    monkeypatch.setattr("scope_rlvr.study.report.charts_of", lambda analysis: charts_of(analysis)[:1])
    write_report(study, StudyFolder.at(tmp_path, folder.results))
    ours = {file.relative_to(tmp_path): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert {path.parts[0] for path in ours} == {"report.html", "report.md", "table.json", "plots"}
    same = [path for path in ours if path.parts[0] in ("table.json", "plots")]
    assert len(same) == 3
    assert all(ours[path] == (folder.path / path).read_bytes() for path in same)


def test_the_table_holds_means_intervals_and_corrected_differences(example: tuple[Study, StudyFolder]) -> None:
    study, folder = example
    table = json.loads((folder.path / "table.json").read_text())
    results = {run.id: folder.result(run) for run in study.runs}
    accuracy = {
        arm: [results[f"{arm}-seed{seed}"].after["reduction-6"]["accuracy"] for seed in range(1, 6)]
        for arm in ("scope", "luffy", "grpo")
    }
    arms = {arm["id"]: arm for arm in table["arms"]}
    assert arms["scope"]["after"]["reduction-6/accuracy"]["mean"] == pytest.approx(fmean(accuracy["scope"]), rel=1e-5)
    primary = {d["other"]: d for d in table["differences"] if d["measure"] == "reduction-6/accuracy"}
    found = {arm: paired_difference(accuracy["scope"], accuracy[arm]) for arm in ("luffy", "grpo")}
    for arm, expected in found.items():
        assert primary[arm]["mean"] == pytest.approx(expected.interval.mean, rel=1e-5)
        assert primary[arm]["p_t"] == pytest.approx(expected.p_t, rel=1e-5)
        assert primary[arm]["p_sign_flip"] == expected.p_sign_flip == 2 / 32
    corrected = holm([found["luffy"].p_t, found["grpo"].p_t])
    assert [primary[arm]["holm_t"] for arm in ("luffy", "grpo")] == pytest.approx(corrected, rel=1e-5)
    assert arms["scope"]["budgets"]["steps"]["mean"] == 200
    assert arms["grpo"]["budgets"]["tokens/teacher"]["mean"] == 0
    assert "salvage/rate" not in arms["grpo"]["budgets"]
    assert "tokens/scored" not in arms["grpo"]["budgets"]


def test_tokens_that_a_teacher_scored_are_told_from_those_it_wrote(example: tuple[Study, StudyFolder]) -> None:
    result = analysis_of(*example).all_results[0]
    spent = budgets(replace(result, tokens={**result.tokens, "teacher": 3, "scored": 7}))
    assert (spent["tokens/teacher"], spent["tokens/scored"]) == (3, 7)


def test_equal_tokens_are_read_where_every_run_came_to(example: tuple[Study, StudyFolder]) -> None:
    analysis = analysis_of(*example)
    spent = [
        r.evaluations["tokens/sampled"][-1] + r.evaluations["tokens/continuation"][-1] for r in analysis.all_results
    ]
    tokens = analysis.common_tokens(analysis.cells)
    assert tokens == min(spent)
    run = next(r for r in analysis.all_results if r.arm == "scope")
    xs = [a + b for a, b in zip(run.evaluations["tokens/sampled"], run.evaluations["tokens/continuation"], strict=True)]
    ys = run.evaluations["reduction-6/accuracy"]
    share = (tokens - xs[-2]) / (xs[-1] - xs[-2])
    expected = ys[-2] + share * (ys[-1] - ys[-2])
    assert at_tokens(tokens)(run)["reduction-6/accuracy"] == pytest.approx(expected)


def test_an_arm_that_samples_less_or_nothing_spoils_no_other_comparison(tmp_path: Path, no_plots: None) -> None:
    study, folder = make_study(tmp_path)
    for run in study.runs:
        result = folder.result(run)
        assert result is not None
        share = {"scope": 1.0, "luffy": 0.5, "grpo": 0.0}[run.cell.arm]
        names = ("tokens/sampled", "tokens/continuation")
        less = {name: [share * (v or 0) for v in result.evaluations[name]] for name in names}
        write_result(replace(result, evaluations=result.evaluations | less), folder.result_file(run))
    analysis = analysis_of(study, folder)
    scope, luffy, grpo = analysis.cells
    assert analysis.sampling_cells == [scope, luffy]
    assert analysis.common_tokens([grpo]) is None
    found = analysis.comparisons("reduction-6/accuracy", at_equal_tokens=True)
    assert [c.other for c in found] == [luffy]
    assert found[0].tokens == analysis.common_tokens([scope, luffy]) < 400_000
    write_report(study, folder)
    text = (folder.path / "report.md").read_text().split("At equal sampled tokens")[1].split("##")[0]
    assert "| GRPO | 5 | – |" in text


def test_a_better_arm_reaches_a_worse_ones_end_earlier_and_not_the_other_way(
    example: tuple[Study, StudyFolder],
) -> None:
    analysis = analysis_of(*example)
    scope, _, grpo = analysis.cells
    reached = analysis.steps_to_reach("reduction-6/accuracy")
    assert reached[grpo][scope] < 100
    assert reached[scope][grpo] is None
    text = (example[1].path / "report.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| GRPO |") and "not reached" in line)
    assert row.count("not reached") == 2


def test_the_markdown_says_what_the_page_says(example: tuple[Study, StudyFolder]) -> None:
    text = (example[1].path / "report.md").read_text()
    page = Checker((example[1].path / "report.html").read_text("utf-8"))
    shown = " ".join(page.text.split())
    cells = [c.strip() for line in text.splitlines() if line.startswith("| ") for c in line.strip("|").split("|")]
    assert len(cells) > 100
    assert all(cell.replace("&lt;", "<") in shown for cell in cells if not cell.startswith("---"))
    for picture in re.findall(r"\]\((plots/[^)]+)\)", text):
        assert (example[1].path / picture).is_file()


def test_a_sweep_is_compared_value_by_value_and_drawn_over_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, folder = make_study(tmp_path, STUDY + SWEEP)
    monkeypatch.setattr(
        "scope_rlvr.study.report.charts_of", lambda a: [p for p in charts_of(a) if p.group == SWEPT][:1]
    )
    write_report(study, folder)
    pairs = [(one.id, other.id) for one, other in analysis_of(study, folder).pairs]
    assert pairs == [
        ("scope-0.1", "luffy-0.1"),
        ("scope-0.4", "luffy-0.4"),
        ("scope-0.1", "grpo"),
        ("scope-0.4", "grpo"),
    ]
    assert (folder.path / "plots" / "reduction-6-accuracy-by-value.svg").is_file()
    assert "GRPO (reference: SCOPE, 0.4)" in (folder.path / "report.md").read_text()


def test_every_swept_value_is_named_below_its_chart(tmp_path: Path) -> None:
    study, folder = make_study(tmp_path, STUDY + SWEEP.replace("[0.1, 0.4]", "[0.05, 0.13, 0.4]"))
    chart = charts_of(analysis_of(study, folder))[0]
    (axes,) = chart.figure().axes
    named = {label.get_text(): place for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
    assert named == {"0.05": 0.05, "0.13": 0.13, "0.4": 0.4}
    first = chart.hover_texts[0].text.splitlines()
    assert first[0] == "scorer.noise: 0.05"
    assert [line.split(":")[0] for line in first[1:]] == ["SCOPE", "LUFFY", "GRPO"]


def test_missing_and_failed_runs_are_told_and_pairs_are_common_seeds(tmp_path: Path, no_plots: None) -> None:
    study, folder = make_study(tmp_path, num_missing=2)
    write_report(study, folder, [("grpo-seed5", "exit code 1: <script>alert(1)</script> | \x1b[31m")])
    page, text = ((folder.path / f"report.{kind}").read_text("utf-8") for kind in ("html", "md"))
    for part in (page, text):
        assert "<script>" not in part
        assert "\x1b" not in part
        assert "grpo-seed5 failed" in part
    assert "LUFFY: seeds 5 have not finished." in text
    comparisons = {c.other.arm: c for c in analysis_of(study, folder).comparisons("reduction-6/accuracy")}
    assert {arm: c.difference.interval.num_seeds for arm, c in comparisons.items()} == {"luffy": 4, "grpo": 4}


def test_one_seed_gives_means_without_intervals(tmp_path: Path, no_plots: None) -> None:
    study, folder = make_study(tmp_path, STUDY.replace("[1, 2, 3, 4, 5]", "[1]"))
    write_report(study, folder)
    text = (folder.path / "report.md").read_text()
    assert re.search(r"\| SCOPE \| 1 \| \d+\.\d % \| ", text)
    assert "| – |" in text


def test_runs_without_evaluations_on_the_way_have_a_report(tmp_path: Path) -> None:
    study, folder = make_study(tmp_path)
    for run in study.runs:
        result = folder.result(run)
        assert result is not None
        write_result(replace(result, evaluations={}, curves={}), folder.result_file(run))
    write_report(study, folder)
    text = (folder.path / "report.md").read_text()
    assert "At equal sampled tokens" not in text
    assert "Steps to reach" not in text
    assert "No curve was recorded" in (folder.path / "report.html").read_text()


def test_without_a_result_there_is_no_report(tmp_path: Path) -> None:
    study, folder = make_study(tmp_path, num_missing=15)
    with pytest.raises(UserError, match="there is no result of the study"):
        write_report(study, folder)


def test_runs_by_different_code_are_noted(tmp_path: Path, no_plots: None) -> None:
    study, folder = make_study(tmp_path)
    result = folder.result(study.runs[0])
    assert result is not None
    write_result(
        replace(result, versions=result.versions | {"code": "ba9876543210"}), folder.result_file(study.runs[0])
    )
    assert notes(analysis_of(study, folder)) == [
        "These runs were begun with 2 different states of this package's source code."
    ]


def test_measures_of_other_sizes_are_taken_and_the_largest_pass_at_k_is_compared(
    tmp_path: Path, no_plots: None
) -> None:
    study, folder = make_study(tmp_path)
    for run in study.runs:
        result = folder.result(run)
        assert isinstance(result, RunResult)
        for record in result.after.values():
            record |= {"pass_at_2": 0.5, "pass_at_16": 0.9, "maj_at_8": 0.6}
        write_result(result, folder.result_file(run))
        names = [name for name in measures_after(result) if name.startswith("reduction-6/")]
        assert {"reduction-6/pass_at_2", "reduction-6/maj_at_8"} <= set(names)
        assert "reduction-6/pass_at_1" not in names
    assert analysis_of(study, folder).headlines[:2] == ["reduction-6/accuracy", "reduction-6/pass_at_16"]
    write_report(study, folder)
    text = (folder.path / "report.md").read_text()
    assert "| arm | seeds | accuracy | pass@2 | pass@8 | pass@16 | maj@8 |" in text
    assert "| arm | reduction-6, pass@16 | reduction-9, accuracy |" in text
