"""A run as one HTML file that needs no network and runs no script.

Everything is escaped by the template engine, and a content security policy forbids the browser to load or run
anything even if an escape were missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from inc_laaciq.report import numbers
from inc_laaciq.report.checks import worst_first
from inc_laaciq.report.forest import dumbbells, forest, shape_of
from inc_laaciq.report.view import RATIO_MEANING, UNIT_MEANING, VERDICT_MEANING, view


def to_html(run: Mapping[str, Any]) -> str:
    """Render the content of `laaciq.json`, or the document of a gate, as a page.

    Parameters
    ----------
    run : mapping
        Schema `inc-laaciq/run/1` or `inc-laaciq/gate/1`.

    Returns
    -------
    str
        A whole HTML document, the same for the same input; encode it as UTF-8.

    Raises
    ------
    IntegrityError
        If the schema is another one, or a section has the wrong type.
    """
    shown = view(run)
    return template("run.html.j2").render(
        view=shown,
        plot=forest(shown.languages, shown.comparisons),
        unit=numbers.UNIT,
        unit_meaning=UNIT_MEANING,
        ratio_meaning=RATIO_MEANING,
        verdict_meaning=VERDICT_MEANING,
        unknown=numbers.UNKNOWN,
        checks_to_see=worst_first([row for row in shown.checks if row.level != "none"]),
        checks_passed=[row for row in shown.checks if row.level == "none"],
        dumbbells=dumbbells(shown.languages),
        legend=[(shape_of(number), name) for number, name in enumerate(("this run", *shown.comparisons))],
    )


@lru_cache(maxsize=2)
def template(name: str) -> Template:
    """A page's template, which escapes every text that is put into it."""
    environment = Environment(
        autoescape=True,
        loader=PackageLoader("inc_laaciq.report", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)
