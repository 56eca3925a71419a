"""What modules hold while a run is recorded: integers that know their place, and what the run changes."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from surgery.axes.formulas import Attribute, Field
from surgery.axes.sizes import Size
from surgery.modules.code.bytecode import mentions
from surgery.modules.contents import Contents
from surgery.modules.plain_data import ATOMS, LONGEST, altered, is_plain_data
from surgery.modules.tensors import Parts
from surgery.modules.tree import OF_ANY


def remember_attributes(parts: Parts, prefix: str, own_copies: bool) -> list[Attributes | Contents]:
    """Replace the integers in modules' attributes, also nested in containers, by ones that know their place.

    With `own_copies`, objects that are plain data are replaced too, by copies for each module whose code mentions them.
    So are containers that several modules hold; without, these are left as they are.
    Returns what these copies hold now: if a run changes them, modules cannot have copies.
    """
    copies: list[Any] = []
    containers: list[Any] = []
    known: dict[int, bool] = {}
    held = [
        (module, f"{prefix}.{inner}".strip("."), name, value)
        for inner, module in parts.modules.items()
        for name, value in vars(module).items()
        if type(value) not in _WITHOUT_SIZES and (not name.startswith("_") or name == "_axes_lengths")
    ]
    times = Counter(id(value) for *_, value in held if type(value) in (dict, list))
    for module, path, name, value in held:
        shared = times[id(value)] > 1
        if shared and not own_copies:
            continue
        wanted = own_copies and type(value) is not int and mentions(type(module), {name})
        new = vars(module)[name] = _remember(value, path, (name,), copies if wanted else None, known)
        if shared and new is not value:
            containers.append(new)
    return [*map(Attributes, copies), *(Contents([one]) for one in containers)]


_WITHOUT_SIZES = frozenset(ATOMS) - {int}
_FILLED = (dict, list, set, deque, tuple)


def _remember(value: Any, module: str, path: tuple[Any, ...], copies: list[Any] | None, known: dict[int, bool]) -> Any:
    """A value with integers that know their place. Objects are followed where there is a list for their `copies`."""
    if type(value) in _WITHOUT_SIZES:
        return value
    if type(value) is int:
        return Size(value, Attribute(module, path, value))
    inside = any(isinstance(step, Field) for step in path)
    if type(value) in (tuple, list, dict) and len(path) < 4 and not (inside and len(value) > LONGEST):
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
        new = {key: _remember(item, module, (*path, key), copies, known) for key, item in items}
        if all(new[key] is item for key, item in items):
            return value  # modules may share it
        return new if isinstance(value, dict) else type(value)(new.values())
    if copies is None or len(path) >= 4:
        return value
    if id(value) not in known:  # the model that is recorded keeps the object alive: modules share it
        known[id(value)] = is_plain_data(value)
    if not known[id(value)]:
        return value
    own = vars(value).items()
    copies.append(altered(value, {key: _remember(v, module, (*path, Field(key)), copies, known) for key, v in own}))
    return copies[-1]


class Attributes:
    """What a module or an object holds at a moment, and what is in the containers among it, which forwards may fill."""

    def __init__(self, holder: Any):
        self.holder = holder
        self.before = dict(vars(holder))
        held = {name: value for name, value in self.before.items() if isinstance(value, _FILLED) and name not in OF_ANY}
        self.contents = {name: Contents([value]) for name, value in held.items()}

    def changed(self) -> list[str]:
        """The attributes that were set, filled or removed since then."""
        now, before = vars(self.holder), self.before
        changed = [name for name, value in now.items() if name not in before or before[name] is not value]
        changed += [n for n, contents in self.contents.items() if now.get(n) is before[n] and contents.changed()]
        return changed + [name for name in before if name not in now]
