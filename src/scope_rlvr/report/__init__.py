"""What a person looks at: a run folder as one HTML file, in the terminal, and live while it trains."""

from __future__ import annotations

from pathlib import Path

from scope_rlvr.report.reading import ReportError, read_run
from scope_rlvr.store.files import write_text

__all__ = ["ReportError", "write_report"]


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the report of a run folder as one HTML file that needs nothing else, and return where it is.

    ``out`` defaults to ``report.html`` in the run folder. The file appears whole or not at all. Raises ``ReportError``
    when the folder is missing, has nothing to show yet, or ``out`` is a folder.
    """
    out = run / "report.html" if out is None else out
    if out.is_dir():
        raise ReportError(f"the report is one file, and {out} is a folder; name a file, such as {out / 'report.html'}")
    # What draws takes time to load, and most of this room needs none of it.
    from scope_rlvr.report.page import render_page

    page = render_page(read_run(run))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    return out
