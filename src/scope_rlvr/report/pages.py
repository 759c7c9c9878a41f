"""What the pages of reports have in common: their templates' environment, colours, and how they show a chart."""

from __future__ import annotations

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from scope_rlvr.core.visible import visible
from scope_rlvr.report.palette import style_sheet


def page_environment(package: str) -> Environment:
    """For the templates in a package, and for those that all pages share. Every string from outside is shown inert."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("scope_rlvr.report", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
    )
    environment.globals["colours"] = Markup(style_sheet())
    return environment


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
