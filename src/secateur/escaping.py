"""Texts from files and other people, on their way to a terminal."""

from __future__ import annotations

import re


def printable(text: str, keep: str = "") -> str:
    """The text with a backslash escape for each character that is not printed as itself.

    Those are what a terminal would obey (escape sequences, titles, line breaks), what turns or hides the text around it
    (bidirectional marks, zero width) and halves of characters. keep: characters that stay nonetheless.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else _escaped(each) for each in text)


def one_line(text: str) -> str:
    """A message as one printable line: a line break with the spaces around it becomes a space."""
    return printable(re.sub(r"\s*[\r\n]+\s*", " ", text.strip()))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
