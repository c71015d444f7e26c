"""What docstrings have of reStructuredText, as Markdown: roles, literal blocks, and examples outside their section."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|meth|func|mod|data|attr|exc):`~?([\w.]+)`")
_LITERAL = re.compile(r"::\n\n(?=[ ]{4})")
_DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", flags=re.MULTILINE)
_SECTION = "\nExamples\n--------\n"


class Roles(griffe.Extension):
    """Turns Sphinx's roles into Markdown."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object when it was read."""
        if obj.docstring is None:
            return
        text = _LITERAL.sub(":\n\n", _ROLE.sub(_code, obj.docstring.value))
        before, section, after = text.partition(_SECTION)
        obj.docstring.value = _DOCTEST.sub(_fenced, before) + section + after


def _code(role: re.Match[str]) -> str:
    return f"`{role[1].removeprefix('flstore.')}`"


def _fenced(doctest: re.Match[str]) -> str:
    return f"```pycon\n{doctest[0]}\n```"
