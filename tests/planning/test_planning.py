"""What planning costs, and models without weights."""

import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.capture.record import capture
from surgery.errors import CaptureError
from surgery.modules.copying import copy_tree
from surgery.modules.inputs import Inputs
from surgery.modules.tensors import aliases, named_tensors, parts_of
from surgery.modules.tree import named_modules, named_parameters
from tests.benchmarks.planning import transformer
from tests.models import BY_NAME, CASES, Case


def calls(run: Callable[[], object]) -> int:
    """How many Python functions a run calls: its cost, without the noise of a clock."""
    count = 0

    def see(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


def planning(depth: int, width: int) -> int:
    model, x = transformer(depth, width), torch.zeros(1, 4, 8)
    surgery.inspect(model, x)  # fills caches
    return calls(lambda: surgery.inspect(model, x))


def test_planning_is_linear_in_depth() -> None:
    few, some, many = (planning(depth, 16) for depth in (4, 8, 16))
    assert many - some == pytest.approx(2 * (some - few), rel=0.05)


def test_planning_does_not_depend_on_width() -> None:
    assert planning(2, 512) == pytest.approx(planning(2, 16), rel=0.05)


def _weightless(_: str, tensor: Tensor) -> Tensor:
    empty = tensor.detach().to("meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


# torch itself cannot run these without values: it looks whether a mask is causal, and packs padded sequences.
BY_VALUE = ("transformer", "transformer_encoder_nested")


@pytest.mark.parametrize("case", [case for case in CASES if case.name not in BY_VALUE], ids=str)
def test_a_model_without_weights_has_the_same_plan(case: Case) -> None:
    model, inputs = case.build().eval(), case.inputs(0)
    plan = surgery.inspect(model, inputs, rehearse=False).to_json()  # a rehearsal sees values: a NaN at some width
    model = copy_tree(model, _weightless)  # `to("meta")` would untie weights
    inputs = tuple(tensor.to("meta") for tensor in inputs)
    assert surgery.inspect(model, inputs, rehearse=False).to_json() == plan
    assert (
        surgery.inspect(model, inputs).groups.keys()
        == surgery.inspect(case.build().eval(), case.inputs(0)).groups.keys()
    )
    assert all(tensor.is_meta for _, tensor in named_tensors(model))


def test_a_model_that_reads_values_cannot_be_planned_without_weights() -> None:
    class Decides(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if (x > 0).any() else x

    with torch.device("meta"):
        model, x = nn.Sequential(Decides(4, 4)), torch.zeros(2, 4)
    with pytest.raises(CaptureError, match=r"on meta.*cannot be called on meta tensors"):
        surgery.inspect(model, x)


class Own(nn.Sequential):
    """Says itself what its parameters are."""

    def named_parameters(self, *args: object, **kwargs: object) -> Iterator[tuple[str, nn.Parameter]]:
        return (item for item in super().named_parameters(*args, **kwargs) if "0" not in item[0])


class Hides(nn.Sequential):
    """Shows no modules inside."""

    def named_modules(self, memo: object = None, prefix: str = "", remove_duplicate: bool = True) -> Iterator:
        yield prefix, self


def _tied() -> nn.Module:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.BatchNorm1d(4), nn.Sequential(layer, nn.Linear(4, 4)))
    model[2][1].weight = layer.weight
    model.register_buffer("same", layer.bias)
    return model


TREES: dict[str, Callable[[], nn.Module]] = {
    "tied": _tied,
    "own list": lambda: Own(nn.Linear(2, 2), nn.BatchNorm1d(2)),
    "own walk": lambda: nn.Sequential(nn.Linear(2, 2), Hides(nn.Linear(2, 2))),
    "scripted": lambda: torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.ReLU())),
    **{case.name: case.build for case in CASES},
}


@pytest.mark.parametrize("name", TREES)
def test_the_walk_finds_what_torch_finds(name: str) -> None:
    model = TREES[name]()
    parameters, buffers = list(model.named_parameters()), list(model.named_buffers())
    own = {id(parameter) for parameter in model.parameters()}
    expected = [*parameters, *(item for item in buffers if id(item[1]) not in own)]
    assert [(n, id(t)) for n, t in named_tensors(model)] == [(n, id(t)) for n, t in expected]
    assert [(n, id(t)) for n, t in named_parameters(model)] == [(n, id(t)) for n, t in parameters]
    assert [n for n, _ in named_modules(model, "a")] == [n for n, _ in model.named_modules(prefix="a")]
    every = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    assert sorted(n for names in aliases(parts_of(model)).values() for n in names) == sorted(n for n, _ in every)


def test_the_recorded_graph_is_a_sound_fx_graph() -> None:
    case = BY_NAME["llama_gqa"]
    graph = capture(case.build(), Inputs(case.inputs(0))).graph
    graph.lint()
    assert len(graph.nodes) == len(list(graph.nodes)) == len({node.name for node in graph.nodes})
    assert graph.find_nodes(op="placeholder") == [node for node in graph.nodes if node.op == "placeholder"]
    for node in graph.nodes:
        assert all(node in given.users for given in node.all_input_nodes)


def test_recording_leaves_torch_as_it_was() -> None:
    before = dict(vars(nn.Module))
    surgery.inspect(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), torch.zeros(1, 2))
    assert dict(vars(nn.Module)) == before


def test_a_compiled_module_that_a_closure_holds_is_recorded_as_it_is_written() -> None:
    other = nn.Sequential(nn.ReLU())
    other.compile(backend="eager")

    class Calls(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return other(super().forward(x))

    model = nn.Sequential(Calls(3, 4), nn.Linear(4, 2))
    assert list(surgery.inspect(model, torch.zeros(1, 3)).groups) == ["0.o"]
    assert other._compiled_call_impl is not None
