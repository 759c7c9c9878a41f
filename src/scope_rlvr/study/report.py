"""The report of a study: one HTML page, one Markdown file, the table as JSON, and every plot as SVG and PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.visible import visible
from scope_rlvr.store.files import write_json, write_text
from scope_rlvr.study.analysis import Analysis
from scope_rlvr.study.content import ReportSection, TextTable, facts, notes, sections
from scope_rlvr.study.folder import StudyFolder
from scope_rlvr.study.plan import Study
from scope_rlvr.study.plots import GROUPS, Plot, plots_of

_DIGITS = 6


@dataclass(frozen=True)
class Drawing:
    """A plot as it stands in the page."""

    plot: Plot
    svg: str


def write_report(study: Study, folder: StudyFolder, failed: Sequence[tuple[str, str]] = ()) -> Path:
    """Write ``report.html``, ``report.md``, ``table.json`` and ``plots/`` from the result files that are there.

    Returns where the page is; raises :class:`UserError` where there is no result at all.
    """
    analysis = Analysis(study, folder.results_of(study), list(failed))
    if not analysis.cells:
        raise UserError(f"there is no result of the study in {folder.results}, so there is nothing to report yet")
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        drawings = [Drawing(plot, plot.save(folder.path / "plots")) for plot in plots_of(analysis)]
        write_json(folder.path / "table.json", _rounded(analysis.record()), sort_keys=True)
        write_text(folder.path / "report.md", markdown(analysis, drawings))
        write_text(folder.path / "report.html", page(analysis, drawings))
    except OSError as error:
        raise UserError(f"the report cannot be written to {folder.path}: {error.strerror or error}") from error
    return folder.path / "report.html"


def page(analysis: Analysis, drawings: Sequence[Drawing]) -> str:
    """The whole page; names and reasons are shown inert."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=_finalize, trim_blocks=True)
    template = environment.from_string(files("scope_rlvr.study").joinpath("template.html").read_text("utf-8"))
    return template.render(
        title=analysis.study.title,
        name=analysis.study.name,
        facts=facts(analysis),
        notes=notes(analysis),
        sections=sections(analysis),
        groups=[(name, lead, [Markup(d.svg) for d in drawn]) for name, lead, drawn in _grouped(drawings)],
    ).lstrip()


def _grouped(drawings: Sequence[Drawing]) -> list[tuple[str, str, list[Drawing]]]:
    """Groups with at least one drawing."""
    by_group = {name: [d for d in drawings if d.plot.group == name] for name in GROUPS}
    return [(name, GROUPS[name], drawn) for name, drawn in by_group.items() if drawn]


def _finalize(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def markdown(analysis: Analysis, drawings: Sequence[Drawing]) -> str:
    """The same as Markdown, its pictures beside it."""
    lines = [f"# {_inert(analysis.study.title)}", ""]
    lines += [f"* {name}: {_inert(value)}" for name, value in facts(analysis)] + [""]
    lines += [f"> {_inert(note)}" for note in notes(analysis)]
    for section in sections(analysis):
        lines += ["", f"## {section.title}", "", section.lead, *_markdown_tables(section)]
    lines += ["", "## Curves"]
    for name, lead, drawn in _grouped(drawings):
        lines += ["", f"### {name}", "", lead, ""]
        lines += [f"![{_inert(d.plot.title)}, over {_inert(d.plot.x_label)}](plots/{d.plot.name}.svg)" for d in drawn]
    return "\n".join(lines) + "\n"


def _markdown_tables(section: ReportSection) -> list[str]:
    lines: list[str] = []
    for table in section.tables:
        lines += ["", *([f"**{table.title}**", ""] if table.title else []), *_markdown_rows(table)]
    return lines


def _markdown_rows(table: TextTable) -> list[str]:
    rows = [table.header, ("---", *("---:" for _ in table.header[1:])), *table.rows]
    return [f"| {' | '.join(_inert(cell) for cell in row)} |" for row in rows]


def _inert(text: str) -> str:
    """Text that cannot end a cell or begin a tag."""
    return " ".join(visible(text).replace("|", "\\|").replace("<", "&lt;").split())


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
