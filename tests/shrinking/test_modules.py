"""Small models with fewer modules: optimizers, orders, files, and models that are cut once more."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.errors import InputError
from surgery.plan.groups import EXPERTS, Group, Listed
from surgery.shrinking.record import RECORD
from surgery.shrinking.shrink import wrapped_as
from surgery.twin.setting import plan_of
from tests.models.deep import IMAGES, Block, Branches, Deep, DeepCNN, X, deep, deep_cnn

ORDER = [2, 0, 3, 1]


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(X).square().sum().backward()
    optimizer.step()


# ---- optimizers


@pytest.mark.parametrize(
    "make",
    [lambda p: torch.optim.Adam(p, 0.01), lambda p: torch.optim.SGD(p, 0.01, momentum=0.9)],
    ids=["Adam", "SGD"],
)
def test_an_optimizer_goes_on_with_the_modules_that_are_left(make: Callable[..., torch.optim.Optimizer]) -> None:
    twin = deep(depth={"layers.depth": ORDER})
    optimizer = make(twin.parameters())
    with surgery.at_widths(twin, {"layers.depth": 2, "stem.o": 5}):
        stepped(twin, optimizer)
        small = surgery.shrink(twin, {"layers.depth": 2, "stem.o": 5}).train()
        other = surgery.shrink_optimizer(optimizer, twin, small)
        for _ in range(3):
            stepped(twin, optimizer)
            stepped(small, other)
    torch.testing.assert_close(surgery.shrink(twin, {"layers.depth": 2, "stem.o": 5})(X), small(X))
    assert len(other.state) == len([*small.parameters()])


def test_groups_of_parameters_stay_as_many(recwarn: pytest.WarningsRecorder) -> None:
    twin = deep()
    groups = [{"params": [*layer.parameters()], "lr": 0.1 * i} for i, layer in enumerate(twin.layers)]
    optimizer = torch.optim.SGD([*groups, {"params": [*twin.stem.parameters(), *twin.head.parameters()]}], 0.5)
    other = surgery.shrink_optimizer(optimizer, twin, surgery.shrink(twin, {"depth": 2}))
    assert [len(group["params"]) for group in other.param_groups] == [6, 6, 0, 0, 4]
    assert [group["lr"] for group in other.param_groups] == [group["lr"] for group in optimizer.param_groups]


def test_the_order_of_a_small_model_is_the_one_that_it_was_cut_by() -> None:
    twin = deep(depth={"layers.depth": ORDER})
    optimizer = torch.optim.SGD(twin.parameters(), 0.01, momentum=0.9)
    stepped(twin, optimizer)
    small = surgery.shrink(twin, {"depth": 1})
    surgery.set_depth_order(twin, {"depth": [1, 0, 2, 3]})
    other = surgery.shrink_optimizer(optimizer, twin, small)
    (layer,) = small.layers
    assert isinstance(layer, Block) and isinstance(twin.layers[2], Block)
    expected = optimizer.state[twin.layers[2].up.weight]["momentum_buffer"]
    torch.testing.assert_close(other.state[layer.up.weight]["momentum_buffer"], expected)


# ---- sorting and reordering


@pytest.mark.parametrize("by", [None, surgery.taylor([X], lambda m, x: m(x).square().sum()), surgery.absorbed([X])])
def test_sorting_leaves_chains_as_they_are(by: Any) -> None:
    twin = deep()
    ordered = surgery.order(twin, by=by)
    assert "layers.depth" not in ordered and "layers.0.up.o" in ordered
    torch.testing.assert_close(surgery.sort(twin, by=by)(X), twin(X))


def test_chains_cannot_be_sorted_or_reordered() -> None:
    twin = deep()
    with pytest.raises(InputError, match="set_depth_order"):
        surgery.order(twin, by=lambda model, plan: {"layers.depth": torch.rand(4)})
    with pytest.raises(InputError, match="cannot change places"):
        surgery.reorder(twin, {"depth": [1, 0, 2, 3]})


def mixture() -> Branches:
    """A wrapped sum of branches, which are a group of kind "experts"."""
    torch.manual_seed(0)
    model = Branches()
    plan = surgery.inspect(model, X)
    listed = Listed("branches", tuple((str(i),) for i in range(4)))
    group = Group("branches.experts", 4, kind=EXPERTS, lists=(listed,))
    plan = dataclasses.replace(plan, groups={**plan.groups, group.name: group})
    return wrapped_as(model, plan, surgery.inputs(X))


def test_modules_side_by_side_change_places_with_all_that_is_in_them() -> None:
    twin = mixture()
    inner = {f"branches.{i}.0.o": torch.randperm(6, generator=torch.Generator().manual_seed(i)) for i in range(4)}
    other = surgery.reorder(twin, {"experts": ORDER, **inner})
    torch.testing.assert_close(other(X), twin(X))
    for place, unit in enumerate(ORDER):
        now, before = other.branches[place].get_parameter("0.weight"), twin.branches[unit].get_parameter("0.weight")
        torch.testing.assert_close(now, before[inner[f"branches.{unit}.0.o"]])


def test_modules_side_by_side_are_sorted_by_their_weights() -> None:
    twin = mixture()
    with torch.no_grad():
        for size, branch in zip((1.0, 4.0, 3.0, 2.0), twin.branches, strict=True):
            for parameter in branch.parameters():
                parameter.fill_(size)
    assert surgery.order(twin)["branches.experts"].tolist() == [1, 2, 3, 0]
    kept = surgery.shrink(twin, {"experts": 2})
    assert len(kept.branches) == 2


# ---- small models that are cut again


def twice(first: dict[str, float], second: dict[str, float], order: list[int] | None = None) -> tuple[Deep, Deep]:
    """A model and what is left of it after two cuts."""
    torch.manual_seed(3)
    model = Deep(6)
    small = surgery.shrink(surgery.wrap(model, X, depth={"layers.depth": [5, 1, 4, 0, 2, 3]}), first)
    again = surgery.wrap(small, X, depth=True if order is None else {"depth": order})
    return model, surgery.shrink(again, second)


@pytest.mark.parametrize("order", [None, [2, 0, 3, 1]])
@pytest.mark.parametrize("second", [{"depth": 2}, {"depth": 1, "stem.o": 3}, {"depth": 3, "layers.1.up.o": 5}])
def test_a_file_of_a_model_that_was_cut_twice_is_loaded_from_the_first(
    second: dict[str, float], order: list[int] | None, tmp_path: Path
) -> None:
    model, small = twice({"depth": 4, "layers.4.up.o": 7}, second, order)
    record = vars(small)[RECORD]
    assert record["full"]["layers.depth"] == 6 and record["widths"]["layers.depth"] == second["depth"]
    surgery.save(small, tmp_path / "small")
    loaded = surgery.load(tmp_path / "small", model, X)
    torch.testing.assert_close(loaded(X), small(X), rtol=0, atol=0)
    assert loaded.state_dict().keys() == small.state_dict().keys()


def test_widths_inside_of_modules_that_have_moved_up_are_told_by_their_first_names() -> None:
    _, small = twice({"depth": 4, "layers.4.up.o": 7}, {"depth": 4, "layers.2.up.o": 3})
    widths = vars(small)[RECORD]["widths"]  # 0, 1, 4 and 5 are there: what is layer 2 now was layer 4
    assert widths["layers.4.up.o"] == 3 and widths["layers.2.up.o"] == 12


def test_three_cuts_are_one() -> None:
    _, small = twice({"depth": 5}, {"depth": 4}, [4, 3, 2, 1, 0])
    third = surgery.shrink(surgery.wrap(small, X, depth={"layers.depth": [3, 0, 1, 2]}), {"depth": 2})
    record = vars(third)[RECORD]
    torch.manual_seed(3)
    first = surgery.wrap(Deep(6), X, depth={"layers.depth": record["orders"]["layers.depth"]})
    torch.testing.assert_close(surgery.shrink(first, record["widths"])(X), third(X))


def test_a_small_model_that_keeps_its_modules_is_told_of_the_first_as_well(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = Deep(5)
    small = surgery.shrink(surgery.wrap(model, X, depth=True), {"depth": 3})
    again = surgery.shrink(surgery.wrap(small, X), {"stem.o": 4})
    assert vars(again)[RECORD]["widths"]["layers.depth"] == 3
    surgery.save(again, tmp_path / "small")
    torch.testing.assert_close(surgery.load(tmp_path / "small", model, X)(X), again(X))


@pytest.mark.parametrize("orders", [3, {"layers.depth": 3}, {"layers.depth": ["0"]}, {"layers.depth": [0, 1]}])
def test_a_file_with_orders_that_are_none_is_refused(orders: Any, tmp_path: Path) -> None:
    twin = deep()
    _, described = surgery.save(surgery.shrink(twin, {"depth": 2}), tmp_path / "small")
    data = json.loads(described.read_text())
    described.write_text(json.dumps({**data, "orders": orders}))
    with pytest.raises(surgery.FileError, match=r"orders|permutation"):
        surgery.load(tmp_path / "small", Deep(), X)


def test_the_plan_of_a_small_model_is_that_of_its_layers() -> None:
    small = surgery.shrink(deep(), {"depth": 2, "stem.o": 4})
    plan, cost = surgery.inspect(small, X, depth=True), sum(p.numel() for p in small.parameters())
    assert plan.groups["layers.depth"].size == 2 and plan.groups["stem.o"].size == 4 and plan.total == cost


# ---- what else is made of twins


def copied(twin: Any) -> Any:
    return copy.deepcopy(twin)


def pickled(twin: Any) -> Any:
    return pickle.loads(pickle.dumps(twin))


@pytest.mark.parametrize("again", [copied, pickled])
def test_copies_and_pickles_run_at_every_depth_and_keep_their_order(again: Callable[[Any], Any]) -> None:
    twin = deep(depth={"layers.depth": ORDER})
    surgery.set_widths(twin, {"depth": 2})
    other = again(twin)
    torch.testing.assert_close(other(X), twin(X), rtol=0, atol=0)
    surgery.set_depth_order(other, {"depth": [1, 0, 2, 3]})
    assert plan_of(twin).groups["layers.depth"].order == tuple(ORDER)
    assert not torch.equal(other(X), twin(X)) and len(other.layers) == 4


def test_unwrapped_it_is_the_whole_model() -> None:
    twin = deep()
    expected = twin(X)
    surgery.set_widths(twin, {"depth": 1})
    plain = surgery.unwrap(twin)
    assert len(plain.layers) == 4 and type(plain) is Deep
    torch.testing.assert_close(plain(X), expected)


def test_a_module_that_was_put_in_later_is_refused_by_name() -> None:
    twin = deep()
    twin.layers[2] = Block(8, 12)
    with pytest.raises(InputError, match=r"layers\.2.*put in after wrapping"):
        surgery.shrink(twin, {"depth": 3})


def test_an_error_at_a_small_depth_names_the_foreign_module_as_the_whole_model_does() -> None:
    twin = deep(depth={"layers.depth": ORDER})
    twin.layers[3], narrow = Block(8, 12), {"depth": 3, "stem.o": 4}
    with pytest.raises(InputError, match=r"layers\.3.*put in after wrapping"), surgery.at_widths(twin, narrow):
        twin(X)


@pytest.mark.parametrize("widths", [{"depth": 1}, {"depth": 3, "stem.o": 5}])
def test_small_models_are_exported(widths: dict[str, int]) -> None:
    small = surgery.shrink(deep(depth={"layers.depth": ORDER}), widths)
    exported = torch.export.export(small, (X,)).module()
    torch.testing.assert_close(exported(X), small(X))


@pytest.mark.slow
def test_small_models_go_to_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    small = surgery.shrink(deep_cnn(), {"depth": 2}, recalibrate=False)
    torch.onnx.export(small, (IMAGES,), tmp_path / "small.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path / "small.onnx")
    (out,) = session.run(None, {session.get_inputs()[0].name: IMAGES.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), small(IMAGES), rtol=1e-4, atol=1e-5)


# ---- BatchNorm


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.named_buffers()}


def test_statistics_of_modules_that_are_left_out_stay() -> None:
    twin = deep_cnn(3)
    twin.train()
    for _ in range(3):
        with surgery.at_widths(twin, 1.0):
            twin(IMAGES + 1)
    before = statistics(twin)
    surgery.set_widths(twin, {"depth": 2})
    surgery.recalibrate(twin, [IMAGES])
    after = statistics(twin)
    gone = [name for name in before if name.startswith("blocks.2")]
    assert len(gone) == 3 and all(torch.equal(before[name], after[name]) for name in gone)
    assert not torch.equal(before["blocks.1.norm.running_mean"], after["blocks.1.norm.running_mean"])


def test_batches_that_a_twin_was_wrapped_with_estimate_statistics_at_each_depth() -> None:
    twin = deep_cnn(3, calibration=[IMAGES])
    small = surgery.shrink(twin, {"depth": 2})
    expected = surgery.shrink(twin, {"depth": 2}, recalibrate=False)
    surgery.recalibrate(expected, [IMAGES])
    torch.testing.assert_close(small(IMAGES), expected.eval()(IMAGES))
    assert isinstance(small, DeepCNN) and len(small.blocks) == 2
