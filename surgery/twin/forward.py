"""Forwards of a twin: the root draws widths, modules run at them, backward passes find the widths of their forward."""

from __future__ import annotations

import functools
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from surgery.errors import InputError
from surgery.modules.inputs import tensors
from surgery.twin.absent import joined
from surgery.twin.children import left_out
from surgery.twin.compiled import note_traced
from surgery.twin.elastic import Elastic, elastic_of, state_of, synced
from surgery.twin.foreign import explained, is_own, without_autocast
from surgery.twin.modes import check_mode, watch
from surgery.twin.state import Pass, State, in_backward
from surgery.twin.statistics import learns_nothing, note_statistics
from surgery.twin.telling import share, tell
from surgery.twin.writing import begin_forward, flush, keep_stored, settle_debts


def forward_of(module: Any, base: Any, args: Any, kwargs: Any) -> Any:
    """Run a module at the current widths; the root of a twin draws them in training mode."""
    elastic = elastic_of(module)
    if elastic is None:  # made from a twin, and plain by now
        return base.forward(module, *args, **kwargs)
    absent, handed_on = left_out(module, args, kwargs)
    return handed_on if absent else _forward(elastic, base, module, args, kwargs)


def around(module: Any, put: Any) -> Any:
    """A forward that others put in the place of the root's, by which widths are drawn whatever it calls.

    It says what it wraps, so that who decorates a forward can take that off again.
    """
    elastic = elastic_of(module)
    if elastic is None or elastic.path or not callable(put) or is_own(put, module):
        return put
    if not isinstance(put, MethodType) or put.__self__ is not module:
        return functools.wraps(put)(lambda *args, **kwargs: _run_around(module, put, args, kwargs))
    function = put.__func__

    @functools.wraps(function)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _run_around(self, MethodType(function, self), args, kwargs)

    return MethodType(forward, module)


def _run_around(module: Any, put: Any, args: Any, kwargs: Any) -> Any:
    """Run what others have put in the place of the root's forward, which may never run that itself, but its parts."""
    elastic = elastic_of(module)
    if elastic is None or elastic.state.pending is not None:
        return put(*args, **kwargs)
    return _forward(elastic, None, module, args, kwargs, put)


def _forward(elastic: Elastic, base: Any, module: Any, args: Any, kwargs: Any, put: Any = None) -> Any:
    state = elastic.state
    if state.forward.root:  # most calls: a module inside of the root's forward
        return _run(elastic, base, module, args, kwargs, put)
    state.sync()
    if in_backward() and not elastic.path:
        _check_recomputation(state)
    if elastic.path or in_backward():  # in a backward pass: recomputation (gradient checkpointing)
        state.passed(state.setting.current)
        return _run(elastic, base, module, args, kwargs, put)
    return _root(elastic, base, module, args, kwargs, put)


@_disable_dynamo
def untraced(module: Any, base: Any, args: Any, kwargs: Any) -> Any:
    """`forward_of`, where dynamo has come to it from outside. It runs as it is: each width would be traced anew."""
    note_traced(state_of(module))
    return forward_of(module, base, args, kwargs)


def _root(elastic: Elastic, base: Any, module: Any, args: Any, kwargs: Any, put: Any) -> Any:
    state = elastic.state
    if state.pending is not None:
        state.pending.first(module, args, kwargs)
        elastic = elastic_of(module) or elastic
    drawing = module.training and not state.setting.pinned and not learns_nothing(state, module, args, kwargs)
    if not torch.compiler.is_compiling():
        check_mode(state, module, drawing)
    widths = state.drawn() if drawing else state.setting.current
    state.passed(widths)
    forward = state.forward
    forward.root += 1
    before, forward.now = forward.now, Pass(widths)
    try:
        with state.using(widths), explained(module, state):
            begin_forward(state, widths)
            if state.compiled is not None:
                forward.now.fast = state.compiled.at(module, state, widths)
            output = _run(elastic, base, module, args, kwargs, put)
            keep_stored(state, widths)
    finally:
        forward.root -= 1
        done, forward.now = forward.now, before
    assert done is not None
    output = joined(state, module, done, output)
    note_statistics(state, widths, drawing)
    watch(state, module, output)
    if drawing and state.plan is not None:
        tell(state, {"width": share(state.plan, widths)})
    _leave(state, done, output)
    return output


def _leave(state: State, done: Pass, output: Any) -> None:
    """After a forward of the root: its backward pass will find its widths."""
    forward = state.forward
    forward.recomputed = Pass(done.widths, fast=done.fast)
    forward.without_gradients = 0 if torch.is_grad_enabled() else forward.without_gradients + 1
    if torch.is_grad_enabled():
        for tensor in tensors(output):
            if tensor.requires_grad:
                tensor.register_hook(functools.partial(_reach, state, done))


def _run(elastic: Elastic, base: Any, module: Any, args: Any, kwargs: Any, put: Any) -> Any:
    state = elastic.state
    pass_ = None if elastic.path else state.forward.pass_()
    run = put or (None if pass_ is None else pass_.fast) or elastic.rewritten or elastic.own_forward
    if state.setting.uncast and put is None and "forward" in vars(module):
        run = without_autocast()(run or functools.partial(base.forward, module))
    state.forward.depth += 1
    state.runs += not elastic.path or state.forward.depth == 1  # of the root, or of a part that is called by itself
    try:
        if run is not None:
            return run(*args, **kwargs)
        return base.forward(module, *args, **kwargs)
    finally:
        state.forward.depth -= 1
        try:
            flush(elastic, module)
        finally:
            if not state.forward.depth:
                settle_debts(state)


def _check_recomputation(state: State) -> None:
    """Forwards inside a reentrant checkpoint leave no trace in the graph: only the last one's widths are known."""
    count, state.forward.without_gradients = state.forward.without_gradients, 0
    if count > 1:
        raise InputError(
            f"a checkpoint around the whole model recomputes one of {count} forwards that ran without gradients, and "
            "their widths cannot be told apart: use torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"
        )


def _reach(state: State, done: Pass, _: Tensor) -> None:
    state.forward.recomputed = done


def named_members(module: nn.Module, named: Any) -> Any:
    """What `parameters()`, `buffers()` and their kin give: inside a forward the slices that attributes give.

    `named` lists whole tensors, given a function that says what one module has. In a backward pass, code that takes
    gradients by hand gets the slices that it was given in the forward.
    """
    owners: dict[int, tuple[nn.Module, str]] = {}

    def noted(members: Any) -> Any:
        def listed(owner: nn.Module) -> Any:
            for name, value in members(owner):
                owners[id(value)] = owner, name
                yield name, value

        return listed

    for name, value in named(noted):
        owner, key = owners.get(id(value), (module, ""))
        elastic = synced(owner)
        if elastic is None or (key not in owner._parameters and key not in owner._buffers):
            yield name, value
        else:
            yield name, _listed(elastic, owner, key, value)


def _listed(elastic: Elastic, owner: nn.Module, key: str, value: Tensor) -> Tensor:
    forward, place = elastic.state.forward, (elastic.path, key)
    pass_ = forward.pass_()
    if elastic.state.inside:
        if pass_ is not None:
            pass_.listed.add(place)
        return elastic.read(owner, key, value)
    handed = pass_ is not None and not forward.whole_views and place in pass_.listed
    return elastic.read(owner, key, value) if handed else value
