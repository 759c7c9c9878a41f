"""The report of a study: one HTML page, one Markdown file, the table as JSON, and every plot as SVG and PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.visible import visible
from scope_rlvr.report.charts import Chart
from scope_rlvr.report.pages import page_environment
from scope_rlvr.store.files import write_json, write_text
from scope_rlvr.study.analysis import Analysis
from scope_rlvr.study.charts import GROUPS, charts_of
from scope_rlvr.study.content import ReportSection, TextTable, facts, notes, sections
from scope_rlvr.study.folder import StudyFolder
from scope_rlvr.study.plan import Study

_DIGITS = 6


def write_report(study: Study, folder: StudyFolder, failed: Sequence[tuple[str, str]] = ()) -> Path:
    """Write ``report.html``, ``report.md``, ``table.json`` and ``plots/`` from the result files that are there.

    Returns where the page is; raises :class:`UserError` where there is no result at all.
    """
    analysis = Analysis(study, folder.results_of(study), list(failed))
    if not analysis.cells:
        raise UserError(f"there is no result of the study in {folder.results}, so there is nothing to report yet")
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        charts = charts_of(analysis)
        for chart in charts:
            chart.save(folder.path / "plots")
        write_json(folder.path / "table.json", _rounded(analysis.record()), sort_keys=True)
        write_text(folder.path / "report.md", markdown(analysis, charts))
        write_text(folder.path / "report.html", page(analysis, charts))
    except OSError as error:
        raise UserError(f"the report cannot be written to {folder.path}: {error.strerror or error}") from error
    return folder.path / "report.html"


def page(analysis: Analysis, charts: Sequence[Chart]) -> str:
    """The whole page; names and reasons are shown inert."""
    template = page_environment("scope_rlvr.study").get_template("template.html")
    return template.render(
        title=analysis.study.title,
        name=analysis.study.name,
        facts=facts(analysis),
        notes=notes(analysis),
        sections=sections(analysis),
        groups=_grouped(charts),
    ).lstrip()


def _grouped(charts: Sequence[Chart]) -> list[tuple[str, str, list[Chart]]]:
    """Groups with at least one chart, each with its sentence."""
    by_group = {name: [chart for chart in charts if chart.group == name] for name in GROUPS}
    return [(name, GROUPS[name], drawn) for name, drawn in by_group.items() if drawn]


def markdown(analysis: Analysis, charts: Sequence[Chart]) -> str:
    """The same as Markdown, its pictures beside it."""
    lines = [f"# {_inert(analysis.study.title)}", ""]
    lines += [f"* {name}: {_inert(value)}" for name, value in facts(analysis)] + [""]
    lines += [f"> {_inert(note)}" for note in notes(analysis)]
    for section in sections(analysis):
        lines += ["", f"## {section.title}", "", section.lead, *_markdown_tables(section)]
    lines += ["", "## Curves"]
    for name, lead, drawn in _grouped(charts):
        lines += ["", f"### {name}", "", lead, ""]
        lines += [f"![{_inert(c.title)}, over {_inert(c.x_label)}](plots/{c.name}.svg)" for c in drawn]
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
