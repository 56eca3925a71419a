"""What forwards of a twin write: into buffers and gathered slices, which go into whole tensors, and onto modules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from surgery.errors import InputError
from surgery.modules.contents import Contents
from surgery.modules.tree import OF_ANY
from surgery.plan import cutting
from surgery.twin.elastic import KEY, Elastic, elastic_of
from surgery.twin.memory import Absent, Stored, put_back
from surgery.twin.state import State, Widths

_OWN = OF_ANY | {KEY}


def assign(elastic: Elastic, module: nn.Module, name: str, value: Tensor) -> None:
    """Give a buffer a new value: at once, or while a forward is under way, at its end (gradients may flow on)."""
    if elastic.state.forward.depth:
        elastic.memory.assigned[name] = value
        elastic.state.writes.dirty.append(module)
    else:
        buffer = module._buffers[name]  # a whole one outside of a forward, as `load_state_dict(assign=True)` brings
        _commit(elastic, module, name, value, entire=buffer is not None and value.shape == buffer.shape)


def flush(elastic: Elastic, module: nn.Module) -> None:
    """Write back what a forward has changed in gathered tensors, and what it has assigned to buffers."""
    for name in list(elastic.memory.gathered):
        elastic.give_back(module, name)
    for name, shown in elastic.memory.shown.items():
        if shown.value is not shown.source:
            _take_back(elastic, name, shown.source, shown.value, shown.given)
    for name, lent in elastic.memory.lent.items():
        parts, value = elastic.kept(name) if name in elastic.tensors else None, lent.value.detach()
        if parts is None and not value.is_set_to(lent.whole):
            lent.whole.data = value
        elif parts is not None and not torch.equal(value, cutting.read(lent.whole.detach(), parts)):
            cutting.write(lent.whole.data, value, parts)
    assigned, elastic.memory.assigned = elastic.memory.assigned, {}
    for name, value in assigned.items():
        if module._buffers.get(name) is not None:
            _commit(elastic, module, name, value)


def _take_back(elastic: Elastic, place: str, source: Any, shown: Any, given: Any) -> None:
    """Put what a forward has changed in its copy of a container into that container, slices into whole tensors."""
    if isinstance(source, dict) and isinstance(shown, dict) and isinstance(given, dict):
        for key in given.keys() - shown.keys():
            source.pop(key, None)
        for key, item in shown.items():
            at, now = f"{place}[{key!r}]", source.get(key)
            if key not in given or not _untouched(item, given[key]):
                source[key] = _place_of(elastic, at, item, now)
            else:
                _take_back(elastic, at, now, item, given[key])
    elif isinstance(source, list) and isinstance(shown, list) and isinstance(given, list):
        if len(shown) == len(given):
            for i, item in enumerate(shown):
                at = f"{place}[{i}]"
                if not _untouched(item, given[i]):
                    source[i] = _place_of(elastic, at, item, source[i])
                else:
                    _take_back(elastic, at, source[i], item, given[i])
        else:
            whole = {id(item): kept for item, kept in zip(given, source, strict=True)}
            source[:] = [whole.get(id(item), item) for item in shown]


def _untouched(item: Any, given: Any) -> bool:
    return item is given or (isinstance(given, dict | list) and isinstance(item, dict | list))


def _place_of(elastic: Elastic, place: str, value: Any, before: Any) -> Any:
    """A value as it goes into a container: a slice of the shape that the plan gives the place, in a whole tensor."""
    if not isinstance(value, Tensor) or not isinstance(before, Tensor) or place not in elastic.unregistered:
        return elastic.hold(value)
    parts = elastic.kept(place)
    if parts is None or value.shape != elastic.shape(place, elastic.state.setting.current):
        return value
    return _whole(before, value.detach(), parts)


def _commit(elastic: Elastic, module: nn.Module, name: str, value: Tensor, entire: bool = False) -> None:
    """Put a new value into the tensor that the model and its twin share, where one tensor can hold both.

    Where code is known to assign the buffer, the tensor gets new memory, so that gradients find the old values.
    """
    buffer = module._buffers[name]
    assert buffer is not None
    cut = not entire and not elastic.state.setting.full and name in elastic.tensors
    parts = elastic.kept(name) if cut else None
    value = value.detach()
    if parts is None and value.shape != buffer.shape:
        module._buffers[name] = value  # another shape is another tensor, as in any module
        return
    _check_shape(elastic, name, value, parts)
    if value.is_set_to(buffer if parts is None else cutting.read(buffer, parts)):
        return  # it was changed in place
    whole = _whole(buffer, value, parts)
    if (whole.dtype, whole.device) != (buffer.dtype, buffer.device):
        module._buffers[name] = whole
    elif name in elastic.rebound and not whole.is_inference():
        buffer.data = whole
    else:
        with torch.no_grad():
            buffer.copy_(whole)


def _check_shape(elastic: Elastic, name: str, value: Tensor, parts: cutting.Kept | None) -> None:
    needed = elastic.shape(name, elastic.state.setting.current) if parts is not None else value.shape
    if value.shape != needed:
        raise InputError(
            f"{elastic.path}.{name} is assigned a tensor {list(value.shape)} at widths where the plan gives it "
            f"{list(needed)}. Keep its groups fixed with wrap(model, x, fixed=[{elastic.path!r}])"
        )


def _whole(old: Tensor, value: Tensor, parts: cutting.Kept | None) -> Tensor:
    """A whole tensor with the new values in it."""
    if parts is None:
        return value.clone()
    whole = old.detach().to(value.device, value.dtype, copy=True)
    cutting.write(whole, value, parts)
    return whole


def settle_debts(state: State) -> None:
    """At the end of a forward: write back what it has changed in modules other than the one that ran."""
    dirty, state.writes.dirty = state.writes.dirty, []
    known = [(elastic, module) for module in dirty if (elastic := elastic_of(module)) is not None]
    try:
        for elastic, module in known:
            flush(elastic, module)
    finally:
        for elastic, _ in known:
            elastic.memory.forget()


def keep_stored(state: State, widths: Widths) -> None:
    """At the end of a forward of the root: what it has left in attributes that are cut goes into the whole tensors."""
    state.writes.stored_at = widths
    for module in state.writes.storing:
        elastic = elastic_of(module)
        if elastic is not None:
            for name in elastic.unregistered & elastic.stored.keys():
                _keep(elastic, module, name)


def _keep(elastic: Elastic, module: nn.Module, name: str) -> None:
    """A tensor in a plain attribute, as a buffer: where it has the shape that the plan gives it, it keeps its place."""
    value, before = vars(module).get(name), elastic.stored[name].before
    if not isinstance(value, Tensor) or not isinstance(before, Tensor) or value is before:
        return
    parts = None if elastic.state.setting.full else elastic.kept(name)
    if value.shape == before.shape and parts is None:
        elastic.stored[name] = Stored(value.detach(), follows=True)
    elif parts is not None and value.shape == elastic.shape(name, elastic.state.setting.current):
        whole = _whole(before, value.detach(), parts)
        vars(module)[name] = whole
        elastic.stored[name] = Stored(whole, follows=True)


def begin_forward(state: State, widths: Widths) -> None:
    """Before a forward of the root at other widths than the last: what follows the widths is as before any forward."""
    if state.writes.stored_at is not None and state.writes.stored_at != widths:
        clear_stored(state.writes.storing)


def clear_stored(modules: Iterable[nn.Module]) -> None:
    """Put back what forwards have left on modules and what follows the widths."""
    put_back(
        (module, {name: item.before for name, item in elastic.stored.items() if item.follows})
        for module in modules
        if (elastic := elastic_of(module)) is not None
    )


@contextlib.contextmanager
def stored_kept(wrapped: nn.Module, state: State, cleared: bool = False) -> Iterator[None]:
    """What forwards have left on modules is as before afterwards; `cleared` takes away inside what follows widths.

    That goes for what modules of the model hold in containers and objects, within each other too.
    """
    held = (vars(module).items() for module in wrapped.modules())
    contents = Contents((value for values in held for name, value in values if name not in _OWN), objects=True)
    found = [(module, elastic) for module in state.writes.storing if (elastic := elastic_of(module)) is not None]
    values = [{name: vars(module).get(name, Absent) for name in elastic.stored} for module, elastic in found]
    stored, at = [dict(elastic.stored) for _, elastic in found], state.writes.stored_at
    try:
        if cleared:
            clear_stored(state.writes.storing)
        yield
    finally:
        state.writes.stored_at = at
        contents.put_back()
        for (module, elastic), before, kept in zip(found, values, stored, strict=True):
            elastic.stored = kept
            for name, value in before.items():
                if value is Absent:
                    vars(module).pop(name, None)
                else:
                    vars(module)[name] = value
