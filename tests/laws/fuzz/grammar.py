"""Texts with choices in them, and how one is drawn.

A text is Python source with two kinds of marks:

    <| a || b || c |>        one of these, drawn anew at each place
    <how| a || b |>          one of these, the same at each place of this text that says `how`
    $half(self.c)            one of the spellings that `words.py` has for this name; {0}, {1} are its arguments

An alternative may have several lines, written at the indentation of the place, and marks of its own. A word of several
lines is written at any indentation.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from random import Random

MARK = re.compile(r"<(\w*)\||\$(\w+)\(")
INSIDE = re.compile(r"<\w*\||\|\||\|>")


def expand(text: str, random: Random, words: Mapping[str, Sequence[str]], picked: dict[str, int] | None = None) -> str:
    """A text without marks. `picked` holds what labels have been drawn so far."""
    picked = {} if picked is None else picked
    while (mark := MARK.search(text)) is not None:
        if mark[2]:
            arguments, end = _arguments(text, mark.end())
            chosen = _indented(random.choice(words[mark[2]]), _margin(text, mark.start()))
            for i, argument in enumerate(arguments):
                chosen = chosen.replace(f"{{{i}}}", argument)
        else:
            alternatives, end = _alternatives(text, mark.end())
            index = random.randrange(len(alternatives))
            if mark[1]:
                index = picked.setdefault(mark[1], index)
                if index >= len(alternatives):
                    raise ValueError(f"<{mark[1]}| has another number of alternatives at {text[mark.start() :][:80]!r}")
            chosen = alternatives[index].strip()
        text = text[: mark.start()] + chosen + text[end:]
    return text


def labels(text: str) -> dict[str, set[int]]:
    """How many alternatives each label has, at the places of a text."""
    found: dict[str, set[int]] = {}
    at = 0
    while (mark := MARK.search(text, at)) is not None:
        at = mark.end()
        if mark[2] is None:
            alternatives, at = _alternatives(text, mark.end())
            if mark[1]:
                found.setdefault(mark[1], set()).add(len(alternatives))
            for one in alternatives:
                for label, counts in labels(one).items():
                    found.setdefault(label, set()).update(counts)
    return found


def _alternatives(text: str, start: int) -> tuple[list[str], int]:
    """What stands between a mark's start and its end, and where that is."""
    depth, begin, found = 0, start, []
    for inner in INSIDE.finditer(text, start):
        if inner[0] == "|>" and depth == 0:
            return [*found, text[begin : inner.start()]], inner.end()
        if inner[0] == "||":
            if depth == 0:
                found.append(text[begin : inner.start()])
                begin = inner.end()
        else:
            depth += -1 if inner[0] == "|>" else 1
    raise ValueError(f"a choice has no end: {text[start - 20 : start + 60]!r}")


def _arguments(text: str, start: int) -> tuple[list[str], int]:
    """Arguments up to the bracket that closes them, and where that is."""
    depth, begin, found = 0, start, []
    for at in range(start, len(text)):
        if text[at] in "([{":
            depth += 1
        elif text[at] in ")]}" and depth:
            depth -= 1
        elif text[at] == ")" or (text[at] == "," and not depth):
            found.append(text[begin:at].strip())
            begin = at + 1
            if text[at] == ")":
                return [one for one in found if one], at + 1
    raise ValueError(f"a word has no end: {text[start - 20 : start + 60]!r}")


def _margin(text: str, at: int) -> str:
    """The white space that the line at a place begins with."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip())]


def _indented(text: str, margin: str) -> str:
    first, *rest = textwrap.dedent(text).strip().split("\n")
    return "\n".join([first, *(margin + line for line in rest)])


def tidy(text: str) -> str:
    """Without lines that hold nothing; two of them before each class and function."""
    lines = [line.rstrip() for line in text.split("\n") if line.strip()]
    spaced = []
    for i, line in enumerate(lines):
        top = line.startswith(("class ", "def ", "@")) and not (i and lines[i - 1].startswith("@"))
        method = line.startswith(("    def ", "    @")) and not lines[i - 1].startswith(("    @", "class "))
        spaced += ["", ""] * (top and i > 0) + [""] * method + [line]
    return "\n".join(spaced) + "\n"
