"""The templates: every value that reaches one is escaped, and no template holds a script."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("flstore.display"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: Any) -> str:
    """Fill in a template of this package.

    Parameters
    ----------
    template : str
        File name in ``templates/``.
    **values
        What it shows. Escaped, unless it is HTML that a library made and marked as such (``markupsafe.Markup``).
    """
    return _environment().get_template(template).render(**values)
