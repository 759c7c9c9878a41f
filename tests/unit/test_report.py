"""The report, the terminal view and the live display: what they show, what they bear, and that model text stays text."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from scope_rlvr.cli.show import show
from scope_rlvr.core.errors import UserError
from scope_rlvr.core.groups import SalvageOutcome
from scope_rlvr.core.visible import visible
from scope_rlvr.report import ReportError, write_report
from scope_rlvr.report.cases import FailureEntry, TextPart, case_of, index_failures, spread, spread_over_outcomes
from scope_rlvr.report.live import LiveDisplay, final_table, sparkline
from scope_rlvr.report.reading import read_run
from scope_rlvr.report.run_charts import Series, line_chart, moving_average, stacked_chart
from scope_rlvr.report.terminal import show_run
from scope_rlvr.report.wording import OUTCOME_MEANING, percent
from scope_rlvr.salvage.settings import SalvageSettings
from scope_rlvr.store.journal import encoded, rewrite_records
from scope_rlvr.store.rollouts import Rollouts, rollout_files
from tests.example_run import make_run
from tests.journals import in_lines

HOSTILE = (
    "<script>alert(1)</script> </style></svg><img src=x onerror=alert(2)> [bold]loud[/bold] [/] {{ 7 * 7 }} "
    "\x00\x1b[31m\u202eevil \ud83d 🙂 &amp; '\" javascript:alert(3)"
)


class Elements(HTMLParser):
    """All elements of a page with their attributes, and the text outside of style sheets."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._in_style = False

    @classmethod
    def of(cls, page: str) -> Elements:
        elements = cls()
        elements.feed(page)
        return elements

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_style = tag == "style"

    def handle_data(self, data: str) -> None:
        self.text += "" if self._in_style else data

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def count(self, tag: str, css: str = "") -> int:
        return sum(t == tag and (not css or css in (a.get("class") or "").split()) for t, a in self.tags)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "example")


@pytest.fixture
def own_run(tmp_path: Path) -> Path:
    """A run folder that a test may damage."""
    return make_run(tmp_path / "own", num_steps=4)


def page_of(run: Path, tmp_path: Path) -> Elements:
    return Elements.of(write_report(run, tmp_path / "report.html").read_text("utf-8"))


def recorded(show: Callable[[Console], object], *, is_terminal: bool = False, width: int = 120) -> str:
    console = Console(
        file=io.StringIO(), record=True, width=width, force_terminal=is_terminal, color_system="truecolor"
    )
    show(console)
    return console.export_text(styles=False)


# --- the page -----------------------------------------------------------------------------------------------------


def test_report_shows_every_part_of_a_run(run: Path, tmp_path: Path) -> None:
    page = page_of(run, tmp_path)
    sections = [attributes.get("id") for tag, attributes in page.tags if tag == "section" and "id" in attributes]
    assert sections == ["result", "curves", "salvaged", "not-admitted", "why", "plan"]
    for word in ("scope", "seed", "finished", "reduction-8", "pass@8", "distinct right solutions", "embedded:policy"):
        assert word in page.text
    assert page.count("figure", "chart") == 9
    for part in ("kept", "rejected", "teacher", "continuation"):
        assert page.count("li", part) > 1, f"no row shows the part {part!r} beside its legend"


def test_report_is_one_file_without_scripts_or_outside_resources(run: Path, tmp_path: Path) -> None:
    page = page_of(run, tmp_path)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    links = [a for _, attributes in page.tags for n, a in attributes.items() if n in ("href", "src", "xlink:href")]
    assert links
    assert all(link is not None and link.startswith("#") for link in links)
    styles = re.findall(r"<style>(.*?)</style>", (tmp_path / "report.html").read_text("utf-8"), re.DOTALL)
    assert len(styles) == 1
    assert not re.search(r"url\(|@import", styles[0])
    assert "prefers-color-scheme: dark" in styles[0]


def test_report_goes_into_the_run_folder_and_leaves_nothing_else(own_run: Path) -> None:
    before = {path.name for path in own_run.iterdir()}
    assert write_report(own_run) == own_run / "report.html"
    assert {path.name for path in own_run.iterdir()} - before == {"report.html"}


def test_report_is_the_same_when_written_again(run: Path, tmp_path: Path) -> None:
    assert write_report(run, tmp_path / "a.html").read_bytes() == write_report(run, tmp_path / "b.html").read_bytes()


def test_model_text_is_inert(tmp_path: Path) -> None:
    hostile = make_run(tmp_path / "hostile", num_steps=4, remark=HOSTILE)
    page = page_of(hostile, tmp_path)
    ordinary = page_of(make_run(tmp_path / "ordinary", num_steps=4), tmp_path)
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in ordinary.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "⟨U+0000⟩⟨U+001B⟩[31m⟨U+202E⟩evil ⟨U+D83D⟩ 🙂 &amp;" in page.text
    raw = (tmp_path / "report.html").read_bytes()
    assert b"\x00" not in raw
    assert b"\x1b" not in raw


def test_secrets_of_the_configuration_are_not_shown(run: Path, tmp_path: Path) -> None:
    assert "api_key" in page_of(run, tmp_path).text
    assert "very-secret" not in (tmp_path / "report.html").read_text("utf-8")


def test_long_responses_do_not_make_a_large_file(tmp_path: Path) -> None:
    long = make_run(tmp_path / "long", num_steps=3, remark="x" * 40_000)
    assert sum(len(encoded(record)) for record in Rollouts.of(long)) > 3_000_000
    report = write_report(long)
    assert report.stat().st_size < 500_000
    assert "more characters)" in report.read_text("utf-8")


# --- what it bears ------------------------------------------------------------------------------------------------


def test_unfinished_run_says_so(tmp_path: Path) -> None:
    unfinished = make_run(tmp_path / "unfinished", num_steps=3, is_finished=False)
    assert "still going, or it was interrupted" in page_of(unfinished, tmp_path).text


def test_running_summary_is_not_an_end(own_run: Path, tmp_path: Path) -> None:
    summary = json.loads((own_run / "summary.json").read_text())
    summary |= {"stopped_because": "running", "after": None, "salvage": {}, "tokens": {}, "seconds": 0.0, "steps": 0}
    (own_run / "summary.json").write_text(json.dumps(summary))
    page = page_of(own_run, tmp_path)
    assert "still going, or it was interrupted" in page.text
    assert "finished" not in page.text


def test_torn_last_line_is_left_out_with_a_note(own_run: Path, tmp_path: Path) -> None:
    metrics = own_run / "metrics.jsonl"
    whole = metrics.read_bytes()
    metrics.write_bytes(whole[:-40])
    assert "The last line of metrics.jsonl was not written to its end" in page_of(own_run, tmp_path).text
    metrics.write_bytes(b"not json\n" + whole)
    assert "1 lines of metrics.jsonl are not JSON objects; they are left out. The first is line 1: not JSON" in (
        page_of(own_run, tmp_path).text
    )


@pytest.mark.parametrize("is_older", [False, True])
def test_damaged_rollouts_are_left_out_with_a_note(own_run: Path, tmp_path: Path, is_older: bool) -> None:
    file = in_lines(own_run) if is_older else rollout_files(own_run)[0]
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    assert f"The last rollouts of {file.name} were not written to their end" in page_of(own_run, tmp_path).text
    file.write_bytes(b'{"schema": 1, "step": 1}\n' + whole)
    page = page_of(own_run, tmp_path)
    assert "rollouts cannot be read and are left out: " in page.text
    assert ("line 1 of rollouts.jsonl" if is_older else "bytes 0 to 25 of 00000001.zst are no rollouts") in page.text
    assert "✗ first wrong" in page.text


def test_the_report_is_the_same_of_rollouts_in_lines(own_run: Path, tmp_path: Path) -> None:
    before = write_report(own_run, tmp_path / "blocks.html").read_text()
    written = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d \w+")
    in_lines(own_run)
    after = write_report(own_run, tmp_path / "lines.html").read_text()
    assert written.sub("", after) == written.sub("", before)


def test_whole_last_line_without_a_newline_counts(own_run: Path) -> None:
    whole = (own_run / "metrics.jsonl").read_bytes()
    (own_run / "metrics.jsonl").write_bytes(whole.rstrip(b"\n"))
    assert read_run(own_run).last_step == 4


@pytest.mark.parametrize("name", ["metrics.jsonl", "rollouts/00000001.zst", "config.toml", "environment.json"])
def test_missing_file_is_no_obstacle(own_run: Path, tmp_path: Path, name: str) -> None:
    (own_run / name).unlink()
    assert "Before and after" in page_of(own_run, tmp_path).text


@pytest.mark.parametrize("name", ["summary.json", "config.toml", "environment.json"])
def test_damaged_small_file_is_noted(own_run: Path, tmp_path: Path, name: str) -> None:
    (own_run / name).write_text('{"torn": ')
    assert f"{name} could not be read" in page_of(own_run, tmp_path).text


def test_metrics_may_lack_everything_but_the_step(own_run: Path, tmp_path: Path) -> None:
    rows = [{"step": 1}, {"step": 2, "accuracy": None, "policy/entropy": float("nan")}, {"step": 3, "accuracy": 0.5}]
    (own_run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = page_of(own_run, tmp_path)
    assert page.count("figure", "chart") == 2
    assert "NaN" not in page.text


def test_step_written_twice_counts_once(own_run: Path) -> None:
    with (own_run / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 4, "accuracy": 0.125}\n')
    assert read_run(own_run).series("accuracy")[-1] == (4, 0.125)


def test_run_without_salvages_is_reported(own_run: Path, tmp_path: Path) -> None:
    plain = [record | {"salvage": None} for record in Rollouts.of(own_run) if record["role"] == "sampled"]
    rewrite_records(in_lines(own_run), plain)
    assert "No salvaged rollout was recorded" in page_of(own_run, tmp_path).text


def test_records_of_another_version_are_noted(own_run: Path, tmp_path: Path) -> None:
    with in_lines(own_run).open("a") as rollouts:
        rollouts.write('{"schema": 99, "anything": true}\n')
    assert "1 rollouts are of another format version" in page_of(own_run, tmp_path).text


def test_missing_folder_empty_run_and_folder_as_output_are_errors_with_a_remedy(tmp_path: Path, run: Path) -> None:
    with pytest.raises(ReportError, match=r"no run folder at .*give the folder"):
        write_report(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "metrics.jsonl").write_text("")
    with pytest.raises(ReportError, match="nothing to show; wait for the first training step"):
        write_report(tmp_path / "empty")
    with pytest.raises(ReportError, match="is a folder; name a file"):
        write_report(run, tmp_path)


# --- the choice of cases, and what they say -----------------------------------------------------------------------


def test_outcomes_count_every_failure_once(run: Path) -> None:
    found = index_failures(Rollouts.of(run).heads())
    data = read_run(run)
    assert sum(count for _, count in found.outcomes) == data.total("salvage/failures")
    assert dict(found.outcomes)["admitted"] == data.total("salvage/admitted")
    assert sum(entry.was_attempted for entry in found.entries) == data.total("salvage/attempted")


def test_a_salvage_without_a_teacher_was_attempted_too(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", settings=SalvageSettings(mode="no_teacher"))
    entries, attempted = (
        index_failures(Rollouts.of(run).heads()).entries,
        read_run(run).total("salvage/attempted"),
    )
    assert sum(entry.was_attempted for entry in entries) == attempted > 0


def test_a_cut_at_random_is_not_shown_as_the_scorer_s_word(run: Path, tmp_path: Path) -> None:
    at_random = make_run(tmp_path / "run", settings=SalvageSettings(cut="random_step", guards={"low_score": False}))
    shown, by_scorer = page_of(at_random, tmp_path).text, page_of(run, tmp_path).text
    # The legend alone explains the sign for a first wrong step.
    assert (shown.count("✗ first wrong"), by_scorer.count("✂ cut here")) == (1, 0)
    assert min(shown.count("✂ cut here"), by_scorer.count("✗ first wrong") - 1) > 0
    assert ("first wrong step found" in shown, "first wrong step found" in by_scorer) == (False, True)
    assert "prefix worth keeping" in shown


def test_every_outcome_is_explained() -> None:
    assert set(OUTCOME_MEANING) == set(SalvageOutcome)


def test_spread_reaches_from_the_first_to_the_last_steps() -> None:
    entries = [FailureEntry(i, step=1 + i // 5, group=0, outcome="admitted", was_attempted=True) for i in range(1500)]
    chosen = spread(entries, 24)
    assert len(set(chosen)) == 24
    assert chosen[0].step <= 20
    assert chosen[-1].step >= 280
    gaps = [b.step - a.step for a, b in pairwise(chosen)]
    assert max(gaps) <= 30
    assert spread(entries[:3], 24) == entries[:3]
    assert spread(entries, 0) == []


def test_rare_outcomes_are_not_crowded_out() -> None:
    common = [FailureEntry(i, i, 0, "still wrong", True) for i in range(100)]
    rare = [FailureEntry(1000 + i, 50, 0, "teacher failed", True) for i in range(2)]
    chosen = spread_over_outcomes([*common, *rare], 10)
    assert [entry.outcome for entry in chosen] == ["teacher failed"] * 2 + ["still wrong"] * 8


def test_case_tells_the_story_in_order(run: Path) -> None:
    rollouts = Rollouts.of(run)
    entries = [entry for entry in index_failures(rollouts.heads()).entries if entry.is_admitted]
    for entry in entries:
        record = rollouts.record(entry.number)
        case, story = case_of(record), record["salvage"]
        assert [row.number for row in case.kept] == list(range(1, story["first_wrong_step"] + 1))
        assert {row.part for row in case.kept} == {TextPart.KEPT}
        assert [row.part for row in case.failed][:1] == [TextPart.REJECTED]
        assert case.failed[0].score == story["step_scores"][story["first_wrong_step"]]
        assert case.attempted[0].part is TextPart.TEACHER
        assert case.attempted[0].text == story["corrections"][0]["text"].strip()
        assert case.attempted[-1].part in (TextPart.CONTINUATION, TextPart.TEACHER)
        assert case.attempt_answer == case.reference != case.failed_answer


def cut_in_the_middle(**cut: object) -> dict[str, object]:
    """The record of a failure of two steps, of which one token of the first was kept."""
    steps = [{"text": "one two\n\n", "start": 0, "end": 3}, {"text": "three", "start": 3, "end": 4}]
    story = {
        "outcome": "still wrong",
        "steps": steps,
        "step_scores": [0.9, 0.1],
        **cut,
        "num_kept_tokens": 1,
        "corrections": [{"at_token": 1, "text": "zwei", "num_tokens": 1, "score": None}],
        "attempt": [
            {"origin": "policy", "text": "one", "token_ids": [1]},
            {"origin": "teacher", "text": " zwei", "token_ids": [2]},
        ],
        "verdict": {"outcome": "wrong", "answer": None, "reason": "truncated"},
    }
    return {
        "step": 1,
        "group": 0,
        "problem": "p",
        "level": None,
        "prompt": "q",
        "reference": "r",
        "salvage": story,
        "verdict": {"outcome": "wrong", "answer": None, "reason": "no answer"},
        "segments": [{"origin": "policy", "text": "one two\n\nthree", "token_ids": [1, 3, 4, 5]}],
    }


@pytest.mark.parametrize(
    ("cut", "parts"),
    [
        # Journals of older versions have no ``cut_step``.
        ({"first_wrong_step": 1}, (TextPart.GIVEN_UP, TextPart.REJECTED)),
        ({"first_wrong_step": 1, "cut_step": 1}, (TextPart.GIVEN_UP, TextPart.REJECTED)),
        ({"first_wrong_step": None, "cut_step": 1}, (TextPart.GIVEN_UP, TextPart.CUT)),
        ({"first_wrong_step": None, "cut_step": 0}, (TextPart.CUT, TextPart.DROPPED)),
    ],
)
def test_prefix_cut_inside_a_step_is_shown_in_two_parts(
    cut: dict[str, object], parts: tuple[TextPart, TextPart]
) -> None:
    case = case_of(cut_in_the_middle(**cut))
    assert [(row.part, row.text) for row in case.kept] == [(TextPart.KEPT, "one")]
    assert [(row.part, row.text) for row in case.failed] == list(zip(parts, (" two", "three"), strict=True))
    assert [(row.part, row.text) for row in case.attempted] == [(TextPart.TEACHER, " zwei")]


# --- curves -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [[(1.0, 0.0)], [(5.0, 3.0)], [(1.0, 0.0), (2.0, 0.0)], [(1.0, 1e-9), (900.0, 7.0)]])
def test_charts_stay_in_their_frame(points: list[tuple[float, float]]) -> None:
    for chart in (
        line_chart("t", "h", [Series("s", points, "blue")], percent),
        stacked_chart("t", "h", [Series("s", points, "blue"), Series("u", points, "green")], percent),
    ):
        if chart is None:
            assert all(value == 0 for _, value in points)
            continue
        svg = chart.for_page()
        (width,) = {float(n) for n in re.findall(r'viewBox="0 0 (\S+) \S+"', svg)}
        (axes,) = chart.figure().axes
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert all(left <= x <= right and bottom <= y <= top for x, y in points)
        assert all(left <= x <= right for x in axes.get_xticks())
        assert all(bottom <= y <= top for y in axes.get_yticks())
        places = [float(n) for n in re.findall(r'<rect class="probe" x="(\S+)"', svg)]
        assert len(places) == len(points)
        assert all(0 < n < width for n in places)


def test_charts_of_long_runs_are_small_and_keep_both_ends() -> None:
    points = [(float(step), step / 5000) for step in range(1, 5001)]
    chart = line_chart("t", "h", [Series("s", points, "blue")], percent)
    assert chart is not None
    svg = chart.for_page()
    assert sum(len(path) for path in re.findall(r' d="([^"]*)"', svg)) < 10_000
    assert svg.count("<title>") == len(chart.hover_texts) <= 60
    assert {"1", "5000"} <= set(re.findall(r">(\d+)</text>", svg))


def test_a_chart_tells_its_values_where_it_is_pointed_at() -> None:
    points = [(1.0, 0.25), (2.0, 0.5)]
    series = [Series("s <b>", points, "blue", shows_points=True), Series("u", points[1:], "teal", shows_points=True)]
    chart = line_chart("t", "h", series, percent)
    assert chart is not None
    told = re.findall(r"<title>(.*?)</title>", chart.for_page(), re.DOTALL)
    assert told == ["step 1\ns &lt;b&gt;: 25.0 %\nu: 50.0 %", "step 2\ns &lt;b&gt;: 50.0 %\nu: 50.0 %"]
    assert [key.latest for key in chart.keys] == ["50.0 %", "50.0 %"]


def test_smoothing_is_the_mean_of_a_centred_window() -> None:
    points = [(float(x), float(x % 7)) for x in range(100)]
    middle = sum(y for _, y in points[47:54]) / 7
    assert moving_average(points)[50] == (50.0, pytest.approx(middle))


def test_no_data_is_no_chart() -> None:
    assert line_chart("t", "h", [Series("s", [], "blue")], percent) is None
    assert stacked_chart("t", "h", [], percent) is None


# --- terminal -----------------------------------------------------------------------------------------------------


def test_terminal_shows_the_last_step_with_a_salvage(run: Path) -> None:
    shown = recorded(lambda console: show_run(run, None, console, limit=2))
    admitted = [entry.step for entry in index_failures(Rollouts.of(run).heads()).entries if entry.is_admitted]
    assert f"step {max(admitted)}" in shown
    for word in ("groups:", "✓ kept 1", "✗ first wrong", "◆ teacher", "= admitted", "0."):
        assert word in shown


def test_terminal_colours_the_parts(run: Path) -> None:
    console = Console(file=io.StringIO(), record=True, width=100, force_terminal=True, color_system="truecolor")
    show_run(run, None, console)
    styled = console.export_text(styles=True)
    colours = {re.search(rf"\x1b\[([\d;]+)m{label}", styled) for label in ("✓ kept", "✗ first", "◆ teach", "▸ policy")}
    assert None not in colours
    assert len({found.group(1) for found in colours if found}) == 4


def test_terminal_refuses_a_step_without_rollouts(run: Path) -> None:
    with pytest.raises(ReportError, match=r"no rollouts of step 99 .* from 1 to 12"):
        recorded(lambda console: show_run(run, 99, console))


def test_terminal_shows_model_text_as_it_is(tmp_path: Path) -> None:
    hostile = make_run(tmp_path / "hostile", num_steps=4, remark=HOSTILE)
    shown = recorded(lambda console: show_run(hostile, None, console), width=2000)
    assert "[bold]loud[/bold] [/]" in shown
    assert "⟨U+0000⟩⟨U+001B⟩[31m⟨U+202E⟩evil ⟨U+D83D⟩ 🙂 &amp;" in shown
    assert "\x1b" not in shown


def test_visible_marks_what_would_act_on_a_screen() -> None:
    assert visible("a\tb\nc 🙂 é") == "a\tb\nc 🙂 é"
    assert visible("\r\x07\x9b\ud800\u2066") == "⟨U+000D⟩⟨U+0007⟩⟨U+009B⟩⟨U+D800⟩⟨U+2066⟩"


# --- live display -------------------------------------------------------------------------------------------------


def follow(console: Console, run: Path, *, notes: tuple[str, ...] = ()) -> LiveDisplay:
    now = [0.0]
    display = LiveDisplay(console, 20, ["a plan with [brackets]"], clock=lambda: now[0])
    with display:
        for row in read_run(run).metrics:
            now[0] += 3.0
            display.update(row)
        for note in notes:
            display.note(note)
    return display


def test_live_display_of_a_pipe_is_a_line_every_ten_steps(run: Path) -> None:
    shown = recorded(lambda console: follow(console, run, notes=("saved [to] here",)), width=60)
    lines = shown.splitlines()
    assert lines[0] == "a plan with [brackets]"
    assert [line.split(" | ")[0] for line in lines[1:-2]] == ["step 1/20", "step 10/20"]
    assert lines[-2] == "saved [to] here"
    assert lines[-1].startswith("step 12/20 | accuracy ")
    assert "about 24 s left" in lines[-1]
    assert "loss" not in shown


def test_live_display_of_a_terminal_shows_the_whole_state(run: Path) -> None:
    shown = recorded(lambda console: follow(console, run), is_terminal=True)
    words = ("step 12 of 20", "about 24 s left", "accuracy, plain rollouts", "held out, reduction-8", "groups")
    for word in (*words, "in all", "tokens with gradient", "entropy", "[brackets]"):
        assert word in shown
    assert "loss" not in shown


def test_live_display_bears_missing_metrics(tmp_path: Path) -> None:
    def show(console: Console) -> None:
        with LiveDisplay(console, 0, []) as display:
            display.update({})
            display.update({"salvage/attempted": 0.0, "groups/mixed": 0.0})

    for is_terminal in (True, False):
        assert "step" in recorded(show, is_terminal=is_terminal)


def test_live_display_uses_plain_letters_where_blocks_cannot_be_written(run: Path) -> None:
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace"), force_terminal=True)
    display = follow(console, run)
    assert not set("▁▂▃▄▅▆▇█") & set(str(display._classes()) + str(display._trend(percent, [0.1, 0.9])))


def test_sparkline_does_not_blow_up_noise() -> None:
    assert set(sparkline([0.5, 0.501, 0.5])) == {"▁"}
    assert len(sparkline([i / 1000 for i in range(1000)], 16)) == 16
    assert sparkline([]) == ""


def test_final_table_compares_before_and_after(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    shown = recorded(lambda console: console.print(final_table(summary)))
    for word in (
        "reduction-6",
        "out of distribution",
        "19.0 %",
        "69.0 %",
        "+50 points",
        "pass@8",
        "+1.8",
        "by the teacher",
    ):
        assert word in shown


@pytest.mark.parametrize("missing", ["before", "after", "salvage", "tokens"])
def test_final_table_bears_what_is_missing(run: Path, missing: str) -> None:
    summary = json.loads((run / "summary.json").read_text()) | {missing: None}
    assert "measured" in recorded(lambda console: console.print(final_table(summary)))


def test_rollouts_are_written_as_json_lines(run: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    show(run, jsonl=True)
    written = capsysbinary.readouterr().out.splitlines(keepends=True)
    assert written == [encoded(record) for record in Rollouts.of(run)]
    show(run, step=2, jsonl=True)
    of_step = capsysbinary.readouterr().out.splitlines()
    assert len(of_step) > 8
    assert {json.loads(line)["step"] for line in of_step} == {2}
    with pytest.raises(UserError, match="no rollouts of step 99"):
        show(run, step=99, jsonl=True)
    with pytest.raises(UserError, match="has no rollouts"):
        show(run / "rollouts", jsonl=True)
