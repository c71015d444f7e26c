"""Names in docstrings (``:class:`Policy```) as code and, where the name is whole, as links into the reference."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|meth|func|mod|data|attr|exc):`~?([\w.]+)`")
_EXAMPLE = re.compile(r"::\n\n((?:[ ]{4,}.*\n?|\n)+)")


class Roles(griffe.Extension):
    """Turns Sphinx's roles into Markdown."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object when it was read."""
        if obj.docstring is not None:
            text = _ROLE.sub(lambda found: f"`{found[1].removeprefix('flstore.')}`", obj.docstring.value)
            obj.docstring.value = _EXAMPLE.sub(lambda found: f":\n\n{found[1]}", text)
