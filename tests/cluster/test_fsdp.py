"""Twins under FSDP2 on two ranks: they train as on one, and what is made of them is what is made of whole twins."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import surgery
from surgery.errors import InputError
from tests.cluster.transformer import STEPS, X, Y, built, furthest, optimizer_of, score, train
from tests.ranks import Ranks


def sharded(model: nn.Module, blocks: bool = True, **options: Any) -> Any:
    from torch.distributed.fsdp import fully_shard

    for block in model.blocks if blocks else ():  # type: ignore[union-attr]
        fully_shard(block, **options)
    return fully_shard(model, **options)


def place() -> tuple[int, int]:
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def whole(model: nn.Module) -> dict[str, Tensor]:
    """The full state_dict of a sharded model, on every rank."""
    from torch.distributed.tensor import DTensor

    return {
        name: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        for name, tensor in model.state_dict().items()
    }


def twins(**kind: Any) -> tuple[Any, Any]:
    """A sharded twin that was trained, and one of a single process with the same weights."""
    wrapped = sharded(surgery.wrap(built(**kind), X).train())
    train(wrapped, optimizer_of(wrapped), range(2), *place())
    reference = surgery.wrap(built(**kind), X)
    reference.load_state_dict(whole(wrapped))
    return wrapped, reference


# --- training ---


def _trained(blocks: bool, checkpointed: bool, wrapper: bool) -> float:
    """How far the weights are from those of one process that got the whole batches."""
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

    alone = surgery.wrap(built(checkpointed=checkpointed), X).train()
    train(alone, optimizer_of(alone))
    model = built(checkpointed=checkpointed)
    if wrapper:
        apply_activation_checkpointing(model, check_fn=lambda part: type(part).__name__ == "Block")
    wrapped = sharded(surgery.wrap(model, X).train(), blocks)
    train(wrapped, optimizer_of(wrapped), range(STEPS), *place())
    return furthest(whole(wrapped), alone.state_dict())


@pytest.mark.parametrize("blocks", [True, False], ids=["each block", "the root alone"])
@pytest.mark.parametrize("way", ["plain", "checkpointed", "wrapper"])
def test_a_sharded_twin_trains_as_on_one_process(ranks: Ranks, blocks: bool, way: str) -> None:
    assert max(ranks(_trained, blocks, way == "checkpointed", way == "wrapper")) < 1e-10


def _trained_in_parallel() -> float:
    alone = surgery.wrap(built(), X).train()
    train(alone, optimizer_of(alone))
    wrapped = nn.parallel.DistributedDataParallel(surgery.wrap(built(), X).train())
    train(wrapped, optimizer_of(wrapped), range(STEPS), *place())
    return furthest(wrapped.module.state_dict(), alone.state_dict())


def test_a_twin_in_ddp_trains_as_on_one_process(ranks: Ranks) -> None:
    assert max(ranks(_trained_in_parallel)) < 1e-10


def _from_meta() -> tuple[float, str]:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    with torch.device("meta"):
        hollow = built()
    wrapped = sharded(surgery.wrap(hollow, X.to("meta")).train())
    wrapped.to_empty(device="cpu")
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(wrapped, built().state_dict() if place()[0] == 0 else {}, options=options)
    train(wrapped, optimizer_of(wrapped), range(STEPS), *place())
    alone = surgery.wrap(built(), X).train()
    train(alone, optimizer_of(alone))
    surgery.verify(surgery.shrink(wrapped, 0.5, X), surgery.shrink(alone, 0.5), X)
    try:
        surgery.shrink(wrapped, 0.5)
    except InputError as error:
        return furthest(whole(wrapped), alone.state_dict()), str(error)
    return 1.0, ""


def test_a_model_on_meta_is_wrapped_sharded_and_loaded(ranks: Ranks) -> None:
    for far, error in ranks(_from_meta):
        assert far < 1e-10
        assert "was wrapped on the meta device" in error and "give others" in error


def _in_bfloat16(output: torch.dtype | None) -> tuple[bool, bool, str]:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    wrapped: Any = surgery.wrap(built().float(), X.float()).train()
    for block in wrapped.blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(wrapped, mp_policy=dataclasses.replace(policy, output_dtype=output))
    drawn = []
    for _ in range(6):
        F.cross_entropy(wrapped(X.float()).float(), Y).backward()
        drawn.append(tuple(surgery.status(wrapped).drawn.values()))  # type: ignore[union-attr]
    small = surgery.shrink(wrapped, 0.5)
    return len(set(drawn)) > 1, small(X.float()).dtype is torch.float32, type(small).__name__


@pytest.mark.parametrize("output", [None, torch.float32])
def test_mixed_precision_draws_and_shrinks_to_the_type_of_the_parameters(
    ranks: Ranks, output: torch.dtype | None
) -> None:
    assert ranks(_in_bfloat16, output) == [(True, True, "Transformer")] * 2


def _resumed(folder: str) -> float:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    rank, world = place()
    first = sharded(surgery.wrap(built(), X).train())
    optimizer = optimizer_of(first)
    train(first, optimizer, range(2), rank, world)
    model, state = get_state_dict(first, optimizer)
    saved = {"model": model, "optimizer": state, "draws": surgery.training_state(first)}
    dcp.save(saved, checkpoint_id=folder)
    train(first, optimizer, range(2, 4), rank, world)

    again = sharded(surgery.wrap(built(), X).train())
    optimizer = optimizer_of(again)
    model, state = get_state_dict(again, optimizer)
    saved = {"model": model, "optimizer": state, "draws": surgery.training_state(again)}
    dcp.load(saved, checkpoint_id=folder)
    set_state_dict(again, optimizer, model_state_dict=saved["model"], optim_state_dict=saved["optimizer"])
    surgery.load_training_state(again, saved["draws"])
    train(again, optimizer, range(2, 4), rank, world)
    return furthest(whole(again), whole(first))


def test_a_sharded_training_goes_on_from_a_distributed_checkpoint(ranks: Ranks, tmp_path: Path) -> None:
    assert ranks(_resumed, str(tmp_path / "checkpoint")) == [0.0, 0.0]


# --- what a step sends ---


class Collectives(TorchDispatchMode):
    """Counts what is sent, by the name of the operation."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def _sent(reduced_once: bool) -> list[dict[str, int]]:
    """Collectives of one plain step, and of one `train_step` with three narrow passes."""
    counts = []
    plain, wrapped = sharded(built().train()), sharded(surgery.wrap(built(), X).train())
    passes = itertools.cycle(range(4))

    def backward(loss: Tensor) -> None:
        wrapped.set_requires_gradient_sync(next(passes) == 3 or not reduced_once)
        loss.backward()

    def step(model: Any) -> None:
        if model is plain:
            F.cross_entropy(model(X), Y).backward()
        else:
            surgery.train_step(model, X, lambda output: F.cross_entropy(output, Y), backward=backward)

    for model in (plain, wrapped):
        step(model)  # the first one sets the engine up
        with Collectives() as seen:
            step(model)
        counts.append(dict(seen.counts))
    return counts


def test_each_pass_gathers_and_reduces_as_a_plain_one(ranks: Ranks) -> None:
    for plain, step in ranks(_sent, False):
        assert len(plain) == 2 and step == {name: 4 * count for name, count in plain.items()}


def test_gradients_can_be_reduced_once_a_step(ranks: Ranks) -> None:
    for plain, step in ranks(_sent, True):
        (reduced,) = [name for name in plain if "reduce" in name]
        assert step[reduced] == plain[reduced]


# --- what is made of a sharded twin ---


def _plain(model: nn.Module) -> bool:
    """Whether a model has nothing of the engine on it."""
    marks = ("__composable", "_fsdp", "_is_fsdp")
    kept = {name for part in model.modules() for name in vars(part) if name.startswith(marks)}
    hooks = [hook for part in model.modules() for hook in (*part._forward_hooks, *part._forward_pre_hooks)]
    named = all(not type(part).__name__.startswith("FSDP") for part in model.modules())
    return named and not kept and not hooks and all(type(p.data) is Tensor for p in model.parameters())


MADE: dict[str, Callable[[Any], nn.Module]] = {
    "shrink": lambda wrapped: surgery.shrink(wrapped, 0.5),
    "shrink to a mixture": lambda wrapped: surgery.shrink(wrapped, {"*.a.qkv.o.1": 0.5, "*.up.o": 7}),
    "shrink at full width": lambda wrapped: surgery.shrink(wrapped, 1.0),
    "unwrap": surgery.unwrap,
    "sort": surgery.sort,
    "refit": lambda wrapped: surgery.shrink(wrapped, 0.5, refit=[X]),
    "nest": lambda wrapped: surgery.nest(wrapped, [X], progress=False),
}


def _made(what: str) -> tuple[float, bool, float]:
    wrapped, reference = twins()
    made = MADE[what](wrapped)
    again = copy.deepcopy(made)
    losses = train(wrapped, optimizer_of(wrapped), range(2, 4), *place())  # the twin goes on
    return furthest(made.state_dict(), MADE[what](reference).state_dict()), _plain(again), losses[-1]


@pytest.mark.parametrize("what", MADE)
def test_what_is_made_of_a_sharded_twin_is_plain_and_the_same(ranks: Ranks, what: str) -> None:
    for far, plain, loss in ranks(_made, what):
        assert far < 1e-12 and plain and loss == loss


def _alive() -> tuple[int, int]:
    """How many gathered tensors are there at once while a small model is made, and how many are gathered in all."""
    from torch.distributed.tensor import DTensor

    wrapped, _ = twins()
    gathered: list[Any] = []
    most = 0

    def full_tensor(self: Any, **options: Any) -> Tensor:
        nonlocal most
        found: Tensor = own(self, **options)
        gathered.append(weakref.ref(found))
        most = max(most, sum(reference() is not None for reference in gathered))
        return found

    own = DTensor.full_tensor
    DTensor.full_tensor = full_tensor
    try:
        surgery.shrink(wrapped, 0.25)
    finally:
        DTensor.full_tensor = own
    return most, len(gathered)


def test_no_rank_has_the_whole_model(ranks: Ranks) -> None:
    for most, gathered in ranks(_alive):
        assert most <= 1 and gathered == sum(1 for _ in built().parameters())


def _files(folder: str) -> float:
    wrapped, reference = twins()
    path = f"{folder}/rank{place()[0]}"
    surgery.save(surgery.shrink(wrapped, 0.5), path)
    loaded = surgery.load(path, built(), X)
    return surgery.verify(loaded, surgery.shrink(reference, 0.5), X)


def test_a_small_model_of_a_sharded_twin_is_saved(ranks: Ranks, tmp_path: Path) -> None:
    assert max(ranks(_files, str(tmp_path))) < 1e-12


def _measured() -> list[float]:
    wrapped, reference = twins()
    options: dict[str, Any] = {"progress": False, "measure_latency": False}
    found = []
    for measure in (
        functools.partial(surgery.sweep, widths=(1.0, 0.5, 0.25)),
        functools.partial(surgery.search, evaluations=8),
        surgery.sensitivity,
    ):
        a, b = (measure(model, score, **options) for model in (wrapped, reference))
        found.append(
            max(abs(p.score - q.score) for p, q in zip(getattr(a, "curve", a), getattr(b, "curve", b), strict=True))
        )
    return found


def test_a_sharded_twin_scores_as_a_whole_one(ranks: Ranks) -> None:
    for found in ranks(_measured):
        assert len(found) == 3 and max(found) < 1e-12


class Recurrent(nn.Module):
    """Layers that note their parameters in lists of their own."""

    def __init__(self, cls: type[nn.Module]):
        super().__init__()
        self.e, self.r, self.o = nn.Linear(6, 16), cls(16, 8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.r(self.e(x))[0].mean(1))


def _recurrent(cls: type[nn.Module], apart: bool) -> float:
    from torch.distributed.fsdp import fully_shard

    twins = []
    for _ in range(2):
        torch.manual_seed(0)
        twins.append(surgery.wrap(Recurrent(cls).double(), X).train())
    wrapped, alone = twins
    for part in (wrapped.r, wrapped) if apart else (wrapped,):
        fully_shard(part)
    train(wrapped, optimizer_of(wrapped), range(2), *place(), narrow=[0.5])
    train(alone, optimizer_of(alone), range(2), narrow=[0.5])
    first = surgery.shrink(wrapped, 0.5)  # at once: what was gathered for the step is freed
    surgery.set_widths(wrapped, 0.5)
    with torch.no_grad():
        wrapped.eval()(X)
    return max(surgery.verify(small, surgery.shrink(alone, 0.5), X) for small in (first, surgery.shrink(wrapped, 0.5)))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("cls", [nn.LSTM, nn.GRU])
def test_lists_of_parameters_follow_what_the_engine_puts_in(ranks: Ranks, cls: type[nn.Module], apart: bool) -> None:
    assert max(ranks(_recurrent, cls, apart)) < 1e-9


# --- what does not go ---


def _refused() -> list[str]:
    said = []
    for call in (
        lambda: surgery.wrap(sharded(built()), X),
        lambda: surgery.inspect(sharded(built()), X),
        lambda: sharded(surgery.wrap(built()).train())(X),
    ):
        try:
            call()
        except InputError as error:
            said.append(str(error))
    return said


def test_a_model_is_wrapped_before_it_is_sharded(ranks: Ranks) -> None:
    for first, second, third in ranks(_refused):
        assert first == second and "wrap the plain model first, then shard" in first
        assert "before its first forward" in third and "give wrap example inputs" in third


def _read_alone() -> tuple[int, ...]:
    wrapped = sharded(surgery.wrap(built(), X))
    surgery.set_widths(wrapped, 0.5)
    shape = tuple(wrapped.blocks[0].up.weight.shape) if place()[0] == 0 else ()  # no other rank helps
    torch.distributed.barrier()
    return shape


def test_an_attribute_outside_of_forwards_is_whole_and_asks_nobody(ranks: Ranks) -> None:
    assert ranks(_read_alone) == [(64, 16), ()]
