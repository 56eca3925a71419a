"""Which parts of what a model returns count: told by names, or by a function that picks them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor

from surgery.errors import InputError
from surgery.nested import all_tensors, class_name

# Names of parts ("logits", "hidden_states.3", an index), or a function of what is returned that gives some of it.
Outputs: TypeAlias = "str | int | Iterable[str | int] | Callable[[Any], Any]"


def names_of(returned: object, outputs: Outputs) -> tuple[str, ...]:
    """The names of the parts that count, as `picked` takes them.

    Raises InputError where there is no such part, and where a function gives a tensor that is no part.
    """
    if callable(outputs):
        return _found(returned, outputs)
    listed = [outputs] if isinstance(outputs, str | int) else list(outputs)
    names = tuple(str(name) for name in listed)
    for name in names:
        at(returned, name)
    return names


def picked(returned: object, names: Sequence[str]) -> object:
    """The parts of what a model returned that count; all of it where no names are given."""
    return [at(returned, name) for name in names] if names else returned


def at(returned: object, name: str) -> object:
    """A part by its name: keys, indices and attributes with dots between. Raises InputError where there is none."""
    value = returned
    for key in name.split("."):
        try:
            value = _inside(value)[key]
        except KeyError:
            if isinstance(returned, Tensor):
                raise InputError(f"outputs: the model returns a tensor itself, which has no part {name!r}") from None
            known = ", ".join(known for known, _ in _leaves(returned)) or "(no tensors)"
            raise InputError(f"outputs: {name!r} is no part of what the model returns: {known}") from None
    return value


def _inside(value: object) -> dict[str, object]:
    """What a value holds, by name."""
    if isinstance(value, Mapping):  # by position too, as the results of transformers are
        return {str(i): item for i, item in enumerate(value.values())} | {str(k): item for k, item in value.items()}
    if isinstance(value, tuple | list):
        named = dict(zip(getattr(value, "_fields", ()), value, strict=False))
        return {str(i): item for i, item in enumerate(value)} | named
    return {} if isinstance(value, Tensor) else dict(getattr(value, "__dict__", {}))


def named_tensors(returned: object, names: Sequence[str], apart: Collection[str]) -> dict[str, Tensor]:
    """The tensors of the parts that count, by their places; without those in objects of classes in `apart`."""
    if names:
        return {f"{name}.{inner}": tensor for name in names for inner, tensor in _leaves(at(returned, name))}
    if class_name(returned) in apart:
        return {}
    if isinstance(returned, Tensor) or not _inside(returned):
        return dict(_leaves(returned))
    parts = {id(item): (key, item) for key, item in _inside(returned).items()}.values()
    return {f"{key}.{name}": x for key, item in parts for name, x in named_tensors(item, (), apart).items()}


def _leaves(value: object, name: str = "", depth: int = 8) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a value, with their names. Of two names of one place the last is given, which is no position."""
    if isinstance(value, Tensor):
        yield name, value
    elif depth:
        items = {id(item): (key, item) for key, item in _inside(value).items()}  # the last name of each: no index
        for key, item in items.values():
            yield from _leaves(item, f"{name}.{key}".lstrip("."), depth - 1)


def _found(returned: object, pick: Callable[[Any], Any]) -> tuple[str, ...]:
    """The names of those tensors that a function picks."""
    try:
        chosen = list(all_tensors(pick(returned), {}, {}))
    except (AttributeError, LookupError, TypeError) as error:
        known = ", ".join(known for known, _ in _leaves(returned))
        raise InputError(f"outputs= fails on what the model returns ({known}): {error!r}") from error
    names: dict[int, str] = {}
    for name, tensor in _leaves(returned):
        names.setdefault(id(tensor), name)
    if not chosen or any(id(tensor) not in names for tensor in chosen):
        known = ", ".join(names.values())
        raise InputError(
            f"outputs= picks parts of what the model returns ({known}) as they are; what it gave is none of them, but "
            f"{'nothing' if not chosen else 'computed'}"
        )
    return tuple(dict.fromkeys(names[id(tensor)] for tensor in chosen))
