"""How a class keeps the integers that it is made with: a table of styles.

In a fragment, `INIT(c, heads)` is the head of the constructor, and `@heads` in a forward is that integer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

HEAD = re.compile(r"    INIT\(([^)]*)\)\n?")
PLAIN = "def __init__(self, {names}):\n    super().__init__()"
CONFIG = "def __init__(self, cfg):\n    super().__init__()\n    self.{cfg} = cfg\n    {names} = {reads}"


@dataclass(frozen=True)
class Style:
    """The constructor's head, what it keeps, how that is read, and what the class is called with."""

    head: str
    keep: str = ""  # a line for each integer
    read: str = ""
    given: str = "{named}"
    more: str = ""  # before the class
    member: str = ""  # in the class, for each integer
    rebuilds: bool = True  # whether other sizes make another model


CFG = {"cfg": "cfg"}
STYLES: dict[str, Style] = {
    "attributes": Style(PLAIN, "self.{n} = {n}", "self.{n}"),
    "more attributes": Style(PLAIN, "self.{n} = {n}", "self.{n}"),
    "private": Style(PLAIN, "self._{n} = int({n})", "self._{n}"),
    "tuple": Style(PLAIN + "\n    self.dims = ({names},)", read="self.dims[{i}]"),
    "dict": Style(PLAIN + "\n    self.dims = dict({kept})", read='self.dims["{n}"]'),
    "list": Style(PLAIN + "\n    self.dims = [{names}]", read="self.dims[{i}]"),
    "namespace": Style(CONFIG, read="self.cfg.{n}", given="SimpleNamespace({named})"),
    "config dict": Style(CONFIG, read='self.cfg["{n}"]', given="dict({named})"),
    "dataclass": Style(
        CONFIG,
        read="self.config.{n}",
        given="Config_NAME({named})",
        more="@dataclass\nclass Config_NAME:\n{fields}\n",
    ),
    "property": Style(
        CONFIG,
        read="self.{n}",
        given="SimpleNamespace({named})",
        member="    @property\n    def {n}(self):\n        return self.cfg.{n}\n",
    ),
    "property of a tuple": Style(
        PLAIN + "\n    self.dims = ({names},)",
        read="self.{n}",
        member="    @property\n    def {n}(self):\n        return self.dims[{i}]\n",
    ),
    "method": Style(
        PLAIN, "self._{n} = {n}", "self.get_{n}()", member="    def get_{n}(self):\n        return self._{n}\n"
    ),
    "cached property": Style(
        PLAIN + "\n    self.dims = ({names},)",
        read="self.{n}",
        member="    @cached_property\n    def {n}(self):\n        return self.dims[{i}]\n",
    ),
    "nested namespace": Style(CONFIG, read="self.cfg.{n}", given="SimpleNamespace(name='NAME', {named})"),
    "config with get": Style(CONFIG, read='self.cfg.get("{n}", 1)', given="dict({named})"),
    "getattr": Style(PLAIN, "self.{n} = {n}", 'getattr(self, "{n}")'),
    "getattr of a config": Style(CONFIG, read='getattr(self.cfg, "{n}", 1)', given="SimpleNamespace({named})"),
    "inner namespace": Style(
        PLAIN + "\n    self.cfg = SimpleNamespace(sizes=SimpleNamespace({kept}))", read="self.cfg.sizes.{n}"
    ),
    "inner dict": Style(PLAIN + '\n    self.cfg = {{"sizes": {{{quoted}}}}}', read='self.cfg["sizes"]["{n}"]'),
    "keywords": Style(
        "def __init__(self, **kw):\n    super().__init__()\n    self.kw = kw\n    {names} = {picked}",
        read='self.kw["{n}"]',
    ),
    "named tuple": Style(
        CONFIG,
        read="self.config.{n}",
        given="Sizes_NAME({named})",
        more="Sizes_NAME = namedtuple('Sizes_NAME', '{spaced}')\n",
    ),
    "of the class": Style(PLAIN, read="self.{upper}", member="    {upper} = {value}\n", rebuilds=False),
    "constants": Style(PLAIN, read="{upper}_NAME", more="{constants}\n", rebuilds=False),
    "numbers": Style(PLAIN, read="{value}", rebuilds=False),
}  # fmt: skip


@dataclass(frozen=True)
class Stored:
    """A class text with its integers written out."""

    text: str
    given: str
    rebuilds: bool


def store(text: str, name: str, values: Mapping[str, int], args: Mapping[str, str], random: Random) -> Stored:
    """A fragment's text with one style for its integers; `args` are what its constructor is called with."""
    head = HEAD.search(text)
    assert head is not None, f"no INIT in {text[:60]!r}"
    names = [one.strip() for one in head[1].split(",") if one.strip()]
    kind = random.choice(list(STYLES))
    style = STYLES[kind]
    cfg = "config" if kind in ("dataclass", "named tuple") else "cfg"
    item = 'cfg["{n}"]' if style.given.startswith("dict") else "cfg.{n}"
    words = {
        "names": ", ".join(names),
        "kept": ", ".join(f"{n}={n}" for n in names),
        "quoted": ", ".join(f'"{n}": {n}' for n in names),
        "reads": ", ".join(item.format(n=n) for n in names),
        "picked": ", ".join(f'kw["{n}"]' for n in names),
        "named": ", ".join(f"{n}={args[n]}" for n in names),
        "fields": "\n".join(f"    {n}: int" for n in names),
        "spaced": " ".join(names),
        "constants": "\n".join(f"{n.upper()}_NAME = {values[n]}" for n in names),
        "cfg": cfg,
    }
    lines = [*style.head.format(**words).split("\n"), *_each("    " + style.keep, names, values) * bool(style.keep)]
    written = text.replace(head[0], "".join(f"    {line}\n" for line in lines))
    used = set(re.findall(r"@(\w+)", written)) & set(names)
    for i, n in enumerate(names):
        written = re.sub(rf"@{n}\b", style.read.format(n=n, i=i, upper=n.upper(), value=values[n]), written)
    members = [line for n in names if n in used for line in _each(style.member, names, values, only=n)]
    written = style.more.format(**words) + written + "\n" + "\n".join(members)
    return Stored(
        written.replace("NAME", name), f"{name}({style.given.format(**words)})".replace("NAME", name), style.rebuilds
    )


def _each(line: str, names: Sequence[str], values: Mapping[str, int], only: str = "") -> list[str]:
    found = [
        line.format(n=n, i=i, value=values[n], upper=n.upper()) for i, n in enumerate(names) if not only or n == only
    ]
    return [one for one in found if one.strip()]
