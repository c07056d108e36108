"""Docstrings on their way into the site: what they say of each argument stands on a line of its own."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Arguments(griffe.Extension):
    """Of `name: …` in a paragraph, for names that a function takes or a class holds, an item of a list."""

    def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
        _listed(func, [each.name for each in func.parameters])

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        _listed(cls, list(cls.members))


def _listed(held: griffe.Object, names: list[str]) -> None:
    if held.docstring and names:
        paragraphs = re.split(r"\n[ \t]*\n", held.docstring.value)
        held.docstring.value = "\n\n".join(as_list(each, names) for each in paragraphs)


def as_list(paragraph: str, names: list[str]) -> str:
    """The paragraph, with what it says of arguments as items behind the rest, and what is raised and given last."""
    if ">>>" in paragraph:
        return paragraph
    known = "|".join(map(re.escape, names))
    said, *last = re.split(r"(?<=[.)])\s+(?=(?:Raises|Returns)\b)", " ".join(paragraph.split()), maxsplit=1)
    before, *told = re.split(rf"(?:^|(?<=[.;:)])\s+)((?:{known})(?:, (?:{known}))*): ", said)
    items = [f"- **{name}**: {text.strip()}" for name, text in zip(told[::2], told[1::2], strict=True)]
    return "\n\n".join(filter(None, [before.strip(), "\n".join(items), *last])) if items else paragraph
