"""What the documentation says is what the program does, in both directions."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scope_rlvr.core.errors import ExitCode
from scope_rlvr.core.groups import Role, SalvageOutcome
from scope_rlvr.core.ports import Fault
from scope_rlvr.methods import METHODS, PARTS, Method, catalogue
from scope_rlvr.methods.parts.base import Described
from scope_rlvr.methods.registry import Registry
from scope_rlvr.run.config import load_config
from scope_rlvr.run.metrics import NAMES_OF_TRL
from scope_rlvr.run.outcome import SUMMARY_SCHEMA
from scope_rlvr.run.resume import CHANGEABLE, START_FILE, START_SCHEMA
from scope_rlvr.run.sections import STOP_FIGURES
from scope_rlvr.store.records import SCHEMA_VERSION
from scope_rlvr.store.rollouts import Rollouts
from scope_rlvr.study.analysis import TABLE_SCHEMA
from scope_rlvr.study.plan import _StudyFile, load_study
from scope_rlvr.study.report import write_report
from scope_rlvr.study.results import RESULT_SCHEMA
from tests.example_study import make_study
from tests.surface.test_surface import arguments_of, commands
from tools import config_reference, evidence_tables, method_reference, settings_tables

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
DEV_SET = re.compile(r"^eval/[^/]+/")


def doc(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def journal(file: Path) -> Iterator[dict[str, Any]]:
    yield from map(json.loads, file.read_text(encoding="utf-8").splitlines())


def rows_of(text: str, heading: str) -> dict[str, str]:
    """The tables below a heading up to the next one of its rank: first cell, without its marks, and the rest."""
    section = re.split(r"^#{2,3} ", text.split(f"{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line.strip("| ").split(" | ", 1) for line in section.splitlines() if line.startswith("| `")]
    return {name.strip("`"): rest for cell, rest in lines for name in cell.split(", ")}


# --- metrics --------------------------------------------------------------------------------------------------------


def documented_metrics() -> dict[str, str]:
    """Each key's own part of docs/metrics.md, in one line."""
    parts = re.split(r"^### ", doc("metrics.md"), flags=re.MULTILINE)[1:]
    named = {}
    for part in parts:
        title, _, body = part.partition("\n")
        named[title.strip("` ")] = " ".join(re.split(r"^## ", body, flags=re.MULTILINE)[0].split())
    return named


def written_metrics(run: Path) -> set[str]:
    keys = {key for line in journal(run / "metrics.jsonl") for key in line}
    return {_generic(DEV_SET.sub("eval/<set>/", key)) for key in keys}


def _generic(key: str) -> str:
    """A key as docs/metrics.md writes it for all evaluation sets, measures, methods and faults of a teacher."""
    if key.startswith("side/"):
        return re.sub(r"^side/\w+/", "side/<method>/", key)
    if key.startswith("teacher/errors/"):
        return "teacher/errors/<fault>"
    if not key.startswith("eval/"):
        return key
    return re.sub(r"pass_at_\d+$", "pass_at_<n>", re.sub(r"diversity/\w+$", "diversity/<measure>", key))


def test_every_metric_is_documented_and_every_documented_metric_is_written(
    rich_run: Path, served_run: Path, imitating_run: Path, reciting_run: Path
) -> None:
    written = set().union(*map(written_metrics, (rich_run, served_run, imitating_run, reciting_run)))
    assert written == set(documented_metrics())


def test_every_fault_of_a_teacher_is_documented() -> None:
    for text in (documented_metrics()["teacher/errors/<fault>"], doc("teachers.md")):
        assert all(f"`{fault}`" in text for fault in Fault)


def test_metrics_that_need_an_option_are_marked_so(rich_run: Path, plain_run: Path) -> None:
    missing = written_metrics(rich_run) - written_metrics(plain_run)
    watched = {f"eval/<set>/{name}" for name in (*STOP_FIGURES, "pass_at_<n>", "diversity/<measure>")}
    assert missing == {"policy/kl"} | watched
    metrics = documented_metrics()
    conditional = {key for key, text in metrics.items() if "Written: only with" in text}
    assert missing <= conditional
    always = [key for key, text in metrics.items() if "Written: every step." in text]
    lines = list(journal(plain_run / "metrics.jsonl"))
    assert all(key in line for line in lines for key in always)


def test_every_metric_says_how_to_read_it() -> None:
    for key, text in documented_metrics().items():
        assert re.search(r"\. Read: \S", text), f"{key} does not say how to read it"


def test_names_in_trl_are_documented() -> None:
    renamed = rows_of(doc("metrics.md"), "| here | in TRL's log |\n|---|---|")
    for theirs, ours in NAMES_OF_TRL.items():
        assert renamed[ours] == f"`{theirs}`"


# --- command line ---------------------------------------------------------------------------------------------------


def test_commands_and_flags_are_documented() -> None:
    text = doc("cli.md")
    for name, command in commands().items():
        assert f"| `scope {name}` |" in text
        section = rows_of(text, f"## scope {name}")
        flags = [flag for flag in arguments_of(command) if flag.startswith("--")]
        assert [cell.split()[0] for cell in section] == flags


def test_exit_codes_are_documented() -> None:
    section = doc("cli.md").split("## Exit codes", 1)[1].split("## ", 1)[0]
    found = re.findall(r"^\| (\d+) \| (\w+) \|", section, flags=re.MULTILINE)
    assert {name: int(code) for code, name in found} == {code.name: code.value for code in ExitCode}


def examples(page: str) -> list[str]:
    """Indented command lines of a page that train something new."""
    lines = [line.strip() for line in doc(page).splitlines() if line.startswith("    scope train")]
    return [line for line in lines if "[" not in line.split("#")[0].split("--set")[0] and "--resume" not in line]


EXAMPLES = [*examples("cli.md"), *examples("configuration.md")]


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_reach_the_start_of_training(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: Callable[..., Any]
) -> None:
    started: list[Any] = []

    def start(run: Any, *_: Any, **__: Any) -> ExitCode:
        started.append(run)
        return ExitCode.OK

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scope_rlvr.cli.train._carry_out", start)
    for name in ("my.toml", "my-run.toml"):
        (tmp_path / name).write_text('[run]\nsteps = 7\n[method]\nteacher_term = "trust"\n')
    ended = scope(*shlex.split(line, comments=True)[1:])
    assert ended.code == 0, ended.err
    assert started


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5


# --- configuration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", evidence_tables.PAGES, ids=lambda page: page.name)
def test_the_tables_of_the_evidence_are_those_of_the_results(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == evidence_tables.renewed(page), "run: python tools/evidence_tables.py"


def test_the_reference_is_up_to_date() -> None:
    assert doc("configuration.md") == config_reference.reference(), "run: python -m tools.config_reference"


def test_the_recipe_is_up_to_date() -> None:
    written = config_reference.RECIPE.read_text(encoding="utf-8")
    assert written == config_reference.recipe(), "run: python -m tools.config_reference"


def test_the_recipe_is_the_built_in_configuration() -> None:
    assert load_config(ROOT / "recipes" / "embedded.toml") == load_config()


def test_the_recipe_names_every_key() -> None:
    written = config_reference.RECIPE.read_text(encoding="utf-8")
    values = tomllib.loads(written)
    for section, kind in config_reference.section_types().items():
        for key, field in kind.model_fields.items():
            is_named = f"\n# {key} =\n" in written if field.default is None else key in values[section]
            assert is_named, f"{section}.{key}"


def test_an_unexplained_key_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(settings_tables.MEANINGS, "run.seed")
    with pytest.raises(settings_tables.ReferenceGap, match=r"run\.seed is explained nowhere"):
        config_reference.reference()
    monkeypatch.setitem(settings_tables.MEANINGS, "run.seed", "Seed.")
    monkeypatch.setitem(settings_tables.MEANINGS, "run.speed", "Speed.")
    with pytest.raises(settings_tables.ReferenceGap, match=r"run\.speed"):
        config_reference.reference()


# --- methods --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", method_reference.pages(), ids=lambda path: path.name)
def test_the_pages_of_methods_and_parts_are_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == method_reference.pages()[path](), "run: python -m tools.method_reference"


def test_no_page_of_a_family_is_left_over() -> None:
    assert {*(DOCS / "methods").iterdir()} == {
        page for page in method_reference.pages() if page.parent == DOCS / "methods"
    }


WITHOUT_A_NUMBER = {"arg"}
"""Entries whose paper's number on arXiv is unknown to us."""


@pytest.mark.parametrize(
    ("registry", "name"),
    [(r, name) for r in (METHODS, PARTS) for name in r],
    ids=lambda value: getattr(value, "what", value),
)
def test_every_entry_names_family_paper_and_status(registry: Registry[Any], name: str) -> None:
    kind, entry = registry[name], catalogue.entry_of(registry, name)
    page = doc("parts.md" if registry is PARTS else f"methods/{entry.family}.md")
    told = re.split(r"^#+ ", page.split(f"# {name}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    number = re.search(r"arXiv (\d{4}\.\d{5})", kind.source)
    assert number or name in WITHOUT_A_NUMBER
    first = told.strip().splitlines()[0]
    assert first.startswith(f"**{kind.title}, ")
    assert (f"https://arxiv.org/abs/{number.group(1)}" if number else kind.source) in first
    assert first.endswith(f"Family: {entry.family}. Status: {kind.status.words}.")
    assert f"* **Formula:** {kind.formula}\n" in told
    assert kind.departures in told
    assert catalogue.text_of(kind).replace("``", "`") in told
    assert all(
        f"| `{option}` |" in told for option, *_ in catalogue.options_of(kind) if option not in Method.model_fields
    )


@pytest.mark.parametrize("kind", [*METHODS.values(), *PARTS.values()], ids=lambda kind: kind.__name__)
def test_every_class_says_itself_what_people_read_about_it(kind: type[Described]) -> None:
    for name in ("title", "source", "status", "changes", "formula"):
        assert name in vars(kind), "a class above may say something else"
        assert "\n" not in getattr(kind, name)
    assert kind.formula.count("`") % 2 == 0
    assert kind.departures == "" or "departures" in vars(kind)


def test_the_index_has_a_row_for_every_method() -> None:
    rows = [line for line in doc("methods.md").splitlines() if line.startswith("| [`")]
    assert len(rows) == len(METHODS)
    for name, method in METHODS.items():
        family = catalogue.family_of(METHODS, name)
        (row,) = [
            row
            for row in rows
            if row.startswith(f"| [`{name}`](methods/{family}.md#{name}) | {family} | {method.title}")
        ]
        assert f" | {method.status.value} | {method.changes} | " in row


def test_the_page_of_methods_is_found() -> None:
    assert "(methods.md)" in doc("method.md")
    assert "(docs/methods.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "(parts.md)" in doc("methods.md")


# --- studies --------------------------------------------------------------------------------------------------------


def test_the_example_of_a_study_is_one(tmp_path: Path) -> None:
    example = doc("studies.md").split("```toml\n", 1)[1].split("```", 1)[0]
    (tmp_path / "embedded.toml").write_bytes(config_reference.RECIPE.read_bytes())
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "example.toml").write_text(example)
    study = load_study(tmp_path / "studies" / "example.toml")
    assert f"runs/studies/{study.name}\n" in example
    assert set(tomllib.loads(example)) == set(_StudyFile.model_fields)


# --- formats --------------------------------------------------------------------------------------------------------


def documented_example() -> dict[str, Any]:
    return json.loads(doc("formats.md").split("```json\n", 1)[1].split("```", 1)[0])


def test_every_file_of_a_run_is_documented(rich_run: Path) -> None:
    text = doc("formats.md")
    for path in rich_run.iterdir():
        name = f"{path.name}/" if path.is_dir() else path.name
        assert f"## {name}\n" in text, name
    for path in (rich_run / "checkpoints" / "checkpoint-4").iterdir():
        is_models = path.name.startswith(("config", "generation_config", "model", "tokenizer"))
        assert is_models or f"`{path.name}`" in text, path.name


def test_every_field_of_a_rollout_is_documented(rich_run: Path) -> None:
    text = doc("formats.md")
    fields = rows_of(text, "## rollouts/")
    records = list(Rollouts.of(rich_run))
    salvages = [record["salvage"] for record in records if record["salvage"] is not None]
    assert salvages
    outer = {key for record in records for key in record}
    inner = {key for salvage in salvages for key in salvage}
    outcomes = {outcome.value for outcome in SalvageOutcome}
    assert set(fields) == outer | inner | outcomes
    nested = (records[0]["verdict"], records[0]["segments"][0], salvages[0]["steps"][0])
    nested += tuple(c for salvage in salvages for c in salvage["corrections"])
    for key in {key for table in nested for key in table}:
        assert f"`{key}`" in text, key


def test_every_role_is_documented() -> None:
    roles = doc("formats.md").split("\nRoles. ", 1)[1].split("\n\nA salvaged", 1)[0]
    assert set(re.findall(r"^\* `(\w+)`:", roles, flags=re.MULTILINE)) == {*map(str, Role), "replaced"}


def test_the_example_of_a_rollout_has_the_fields_of_a_real_one(rich_run: Path) -> None:
    example = documented_example()
    real = next(r for r in Rollouts.of(rich_run) if r["role"] == "salvaged")
    assert list(example) == list(real)
    assert list(example["salvage"]) == list(real["salvage"])
    for part in ("steps", "corrections", "attempt"):
        assert list(example["salvage"][part][0]) == list(real["salvage"][part][0])
    steps = example["salvage"]["steps"]
    assert [step["start"] for step in steps[1:]] == [step["end"] for step in steps[:-1]]
    kept, teacher, continuation = example["segments"]
    assert len(kept["token_ids"]) == example["salvage"]["num_kept_tokens"]
    assert len(teacher["token_ids"]) == example["salvage"]["corrections"][0]["num_tokens"]
    assert len(continuation["token_ids"]) == example["salvage"]["num_continuation_tokens"]


def test_every_field_of_the_summary_is_documented(rich_run: Path) -> None:
    text = doc("formats.md")
    summary = json.loads((rich_run / "summary.json").read_text())
    result = summary["after"]["reduction-6"]
    samples = result["samples_per_problem"]
    keys = {key.replace(f"_at_{samples}", "_at_<n>") for key in result}
    assert set(rows_of(text, "## summary.json")) == set(summary) | keys
    for part in ("salvage", "tokens"):
        for key in summary[part]:
            assert f"`{key}`" in text


def test_every_field_of_a_study_s_files_is_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = doc("formats.md")
    study, folder = make_study(tmp_path)
    monkeypatch.setattr("scope_rlvr.study.report.charts_of", lambda analysis: [])
    folder.open_for(study)
    write_report(study, folder)
    result = json.loads(next(folder.results.iterdir()).read_text())
    assert set(rows_of(text, "### results/<run>.json")) == set(result)
    table = json.loads((folder.path / "table.json").read_text())
    assert set(rows_of(text, "### table.json")) == set(table)
    arm, difference = table["arms"][0], table["differences"][0]
    named = {*arm, *difference, *arm["after"]["reduction-6/accuracy"], *result["seconds"]}
    assert [key for key in named if f"`{key}`" not in text] == []
    shown = {entry.name for entry in folder.path.iterdir()}
    listed = text.split("runs/studies/<name>/\n", 1)[1].split("\n\n", 1)[0]
    assert [name for name in shown if f"      {name}" not in listed] == []


def test_schema_versions_are_documented(rich_run: Path) -> None:
    versions = rows_of(doc("formats.md"), "## Schema versions")
    assert versions["rollouts/"].endswith(f"| {SCHEMA_VERSION}")
    assert versions["summary.json"].endswith(f"| {SUMMARY_SCHEMA}")
    assert f"| `results/*.json` of a study | `schema` | {RESULT_SCHEMA} |" in doc("formats.md")
    assert f"| `table.json` of a study | `schema` | {TABLE_SCHEMA} |" in doc("formats.md")
    assert {record["schema"] for record in Rollouts.of(rich_run)} == {SCHEMA_VERSION}


def test_the_environment_names_what_the_page_names(rich_run: Path) -> None:
    text = doc("formats.md").split("## environment.json", 1)[1].split("## ", 1)[0]
    for key in json.loads((rich_run / "environment.json").read_text()):
        assert f"`{key}`" in text


def test_what_a_run_began_with_is_documented(rich_run: Path) -> None:
    start = json.loads((rich_run / START_FILE).read_text())
    assert set(rows_of(doc("formats.md"), "## start.json")) == set(start)
    assert f"| `start.json` | `schema` | {START_SCHEMA} |" in doc("formats.md")
    going_on = doc("cli.md").split("### Stopping and going on", 1)[1].split("## ", 1)[0]
    assert [key for key in CHANGEABLE if f"`{key.removesuffix('.')}`" not in going_on] == []


def test_a_run_s_configuration_reads_back(rich_run: Path) -> None:
    config = load_config(rich_run / "config.toml")
    assert config.objective.kl == 0.001
    assert config.evaluation.every == 2
