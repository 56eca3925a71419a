"""The twin, and what is made from it: it is a PyTorch module like any other."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import surgery
from surgery.modules.inputs import tensors
from surgery.twin.elastic import state_of
from tests.models import BY_NAME
from tests.unchanged import picture, unchanged

# A literal view, batch norm (on flattened channels too), fused qkv, torch's attention, recurrence, tied weights, RoPE.
NAMES = (
    "mlp lenet resnet_basic densenet flatten_batchnorm shufflenet_v2 vit_fused_qkv vit_einops transformer_encoder "
    "multihead_attention llama_gqa gpt2 lstm_tagger recurrent_cells tied_embeddings swin"
).split()
X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(6, 16)
        self.norm = nn.BatchNorm1d(16)
        self.fc2 = nn.Linear(16, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.fc1(x)))
        return self.head(torch.relu(self.fc2(x)))


@pytest.fixture
def model() -> Net:
    torch.manual_seed(0)
    return Net()


def loss(output: Any) -> torch.Tensor:
    return sum(t.square().sum() for t in tensors(output) if t.is_floating_point())


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def seen_widths(wrapped: nn.Module, times: int, x: Any = X) -> list[tuple[int, ...]]:
    """The widths that training forwards really ran at: what fc1 and fc2 returned."""
    seen: list[int] = []
    hooks = [m.register_forward_hook(lambda m, a, y: seen.append(y.shape[-1])) for m in (wrapped.fc1, wrapped.fc2)]
    wrapped.train()
    for _ in range(times):
        wrapped(x)
    for hook in hooks:
        hook.remove()
    return list(zip(seen[::2], seen[1::2], strict=True))


# --- wrap ---


@pytest.mark.parametrize("name", NAMES)
def test_wrapping_and_running_leave_the_model(name: str) -> None:
    model = BY_NAME[name].build()
    with unchanged(model):
        wrapped = surgery.wrap(model, BY_NAME[name].inputs(0)).eval()
        surgery.set_widths(wrapped, 0.5)
        wrapped(*BY_NAME[name].inputs(1))
        surgery.shrink(wrapped, 0.5)
        surgery.unwrap(wrapped)


@pytest.mark.parametrize("name", NAMES)
def test_the_twin_has_the_class_paths_keys_and_tensors_of_the_model(name: str) -> None:
    model = BY_NAME[name].build()
    wrapped = surgery.wrap(model, BY_NAME[name].inputs(0))
    surgery.set_widths(wrapped, 0.25)
    assert isinstance(wrapped, type(model)) and wrapped is not model
    assert [path for path, _ in wrapped.named_modules()] == [path for path, _ in model.named_modules()]
    assert all(isinstance(a, type(b)) for a, b in zip(wrapped.modules(), model.modules(), strict=True))
    assert not {id(m) for m in wrapped.modules()} & {id(m) for m in model.modules()}
    mine, theirs = wrapped.state_dict(keep_vars=True), model.state_dict(keep_vars=True)
    assert list(mine) == list(theirs)
    assert all(mine[key] is theirs[key] for key in mine)
    assert [id(p) for p in wrapped.parameters()] == [id(p) for p in model.parameters()]
    assert [id(b) for b in wrapped.buffers()] == [id(b) for b in model.buffers()]


def _pickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


def _saved(thing: Any) -> Any:
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, _pickled, _saved])
@pytest.mark.parametrize("name", NAMES)
def test_a_copy_is_an_independent_twin(name: str, duplicate: Callable) -> None:
    case = BY_NAME[name]
    wrapped = surgery.wrap(case.build(), case.inputs(0), draw=surgery.paper(p=0.9))
    surgery.set_widths(wrapped, 0.5)
    wrapped.train()(*case.inputs(0))
    other = duplicate(wrapped)
    assert surgery.widths(other) == surgery.widths(wrapped) and isinstance(other, type(wrapped).__mro__[1])
    assert not {id(t) for t in wrapped.parameters()} & {id(t) for t in other.parameters()}
    assert not {id(t) for t in wrapped.buffers()} & {id(t) for t in other.buffers()}
    for seed in range(3):  # the same draws, so the same outputs
        for a, b in zip(tensors(wrapped(*case.inputs(seed))), tensors(other(*case.inputs(seed))), strict=True):
            assert torch.equal(a, b)
    before = picture(wrapped)
    surgery.set_widths(other, 1.0)
    other(*case.inputs(3))
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert picture(wrapped) == before
    surgery.shrink(other, 0.5)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, _pickled])
def test_a_copy_of_a_deferred_twin_is_independent(model: Net, duplicate: Callable) -> None:
    wrapped = surgery.wrap(model, only="fc1")
    other = duplicate(wrapped)
    other.eval()(X)
    assert surgery.widths(other) == {"fc1.o": 16}
    wrapped.eval()(X)
    surgery.set_widths(other, 0.5)
    assert surgery.widths(wrapped) == {"fc1.o": 16} and surgery.widths(other) == {"fc1.o": 8}


def test_gradients_of_each_sample_are_those_of_the_small_model() -> None:
    """`torch.func` over a twin at narrow widths: vmap, jacobians, gradients of each sample."""
    case = BY_NAME["mlp"]
    model, x = case.build().double().eval(), case.inputs(0)[0].double()
    wrapped, small = surgery.wrap(model, x), surgery.shrink(model, 0.5, x)
    surgery.set_widths(wrapped, 0.5)
    torch.testing.assert_close(torch.func.jacrev(wrapped)(x), torch.func.jacrev(small)(x))

    def of_each(module: nn.Module) -> dict[str, torch.Tensor]:
        def loss(parameters: dict[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(module, parameters, (row[None],)).square().sum()

        return torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(dict(module.named_parameters()), x)

    whole, cut = of_each(wrapped), of_each(small)
    for name, gradient in cut.items():
        inside = tuple(slice(0, n) for n in gradient.shape)
        torch.testing.assert_close(whole[name][inside], gradient)
        assert whole[name].count_nonzero() == gradient.count_nonzero()


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_state_dicts_go_both_ways(name: str, assign: bool) -> None:
    case = BY_NAME[name]
    wrapped, other = surgery.wrap(case.build(), case.inputs(0)), case.build()
    surgery.set_widths(wrapped, 0.25)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.01)
    wrapped.load_state_dict(copy.deepcopy(other.state_dict()), assign=assign)
    surgery.set_widths(wrapped, 1.0)
    assert surgery.verify(wrapped, other, case.inputs(1)) <= 1e-5
    surgery.set_widths(wrapped, 0.25)
    third = case.build()
    third.load_state_dict(wrapped.state_dict())
    assert surgery.verify(third, other, case.inputs(1)) == 0


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("early", [True, False])
def test_optimizers_built_before_or_after_wrapping(model: Net, kind: type, early: bool) -> None:
    def train(model: Net, of: Callable) -> list[torch.Tensor]:
        optimizer = kind(model.parameters(), lr=0.01) if early else None
        wrapped = surgery.wrap(model, X)
        optimizer = optimizer or kind(of(wrapped, model).parameters(), lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            loss(wrapped.train()(X)).backward()
            optimizer.step()
        return list(model.parameters())

    one, two = train(copy.deepcopy(model), lambda w, m: w), train(copy.deepcopy(model), lambda w, m: m)
    reference = copy.deepcopy(model)
    wrapped = surgery.wrap(reference, X)
    optimizer = kind(wrapped.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        loss(wrapped.train()(X)).backward()
        optimizer.step()
    for a, b, c in zip(one, two, wrapped.parameters(), strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)
    assert not torch.equal(reference.fc1.weight, model.fc1.weight)


def test_unwrapped_is_plain_and_full_over_the_same_tensors(model: Net) -> None:
    wrapped = surgery.wrap(model, X)
    surgery.set_widths(wrapped, 0.5)
    with unchanged(wrapped):
        plain = surgery.unwrap(wrapped)
    assert [type(m) for m in plain.modules()] == [type(m) for m in model.modules()]
    assert all(a is b for a, b in zip(plain.parameters(), model.parameters(), strict=True))
    assert [vars(m).keys() for m in plain.modules()] == [vars(m).keys() for m in model.modules()]
    assert plain.fc1.out_features == 16 and surgery.verify(plain, model, X) == 0
    surgery.wrap(plain, X)


def test_wrapping_without_example_inputs(model: Net) -> None:
    deferred, direct = surgery.wrap(model, minimum=3), surgery.wrap(model, X, minimum=3)
    with pytest.raises(surgery.InputError, match="has not run yet"):
        surgery.set_widths(deferred, 0.5)
    model.norm.momentum = deferred.norm.momentum = direct.norm.momentum = 0.0
    deferred.eval()(X)  # analysed here
    assert seen_widths(deferred, 4) == seen_widths(direct, 4)
    assert isinstance(deferred, Net) and surgery.widths(deferred) == surgery.widths(direct)
    assert surgery.verify(surgery.shrink(deferred, 0.5), surgery.shrink(direct, 0.5), X) == 0


# --- hooks ---


def test_hooks_see_cut_shapes(model: Net) -> None:
    seen: list[Any] = []
    wrapped = surgery.wrap(model, X).eval()
    wrapped.fc2.register_forward_pre_hook(lambda m, a: seen.append(a[0].shape[-1]))
    wrapped.fc2.register_forward_hook(lambda m, a, y: seen.append((y.shape[-1], m.weight.shape, m.out_features)))
    wrapped.fc2.register_full_backward_hook(lambda m, a, g: seen.append(g[0].shape[-1]))
    wrapped.register_forward_hook(lambda m, a, y: y * 2)
    surgery.set_widths(wrapped, {"fc1.o": 12, "fc2.o": 3})
    output = wrapped(X)
    output.sum().backward()
    assert seen == [12, (3, (3, 12), 3), 3]
    assert torch.equal(output, 2 * surgery.shrink(surgery.unwrap(wrapped), surgery.widths(wrapped), X).eval()(X) / 2)
    assert not model.fc2._forward_hooks and not model._forward_hooks


def test_hooks_of_the_model_fire_on_both(model: Net) -> None:
    seen: list[int] = []
    model.fc1.register_forward_hook(lambda m, a, y: seen.append(y.shape[-1]))
    wrapped = surgery.wrap(model.eval(), X)
    seen.clear()
    surgery.set_widths(wrapped, {"fc1.o": 4})
    model(X), wrapped(X)
    assert seen == [16, 4]


# --- widths ---


def test_training_draws_leave_the_widths_that_were_set(model: Net) -> None:
    wrapped = surgery.wrap(model, X, draw=surgery.paper(p=1.0))
    surgery.set_widths(wrapped, {"fc1.o": 5, "fc2.o": 2})
    assert len(set(seen_widths(wrapped, 8))) > 2
    assert surgery.widths(wrapped) == {"fc1.o": 5, "fc2.o": 2}
    assert wrapped.fc1(X).shape == (5, 5), "a submodule called directly runs at the widths that are set"
    loss(wrapped(X)).backward()
    assert wrapped.fc1(X).shape == (5, 5) and wrapped.fc1.weight.shape == (5, 6)


@pytest.mark.parametrize("training", [True, False])
def test_at_widths_suspends_drawing(model: Net, training: bool) -> None:
    wrapped = surgery.wrap(model, X, draw=surgery.paper(p=1.0)).train(training)
    surgery.set_widths(wrapped, 0.5)
    drawn = state_of(wrapped).generator.get_state()
    shapes = lambda: (wrapped.fc1(X).shape[-1], wrapped(X) is None, *wrapped.fc2.weight.shape)  # noqa: E731
    with surgery.at_widths(wrapped, {"fc1.o": 3}):
        assert shapes() == (3, False, 8, 3) and surgery.widths(wrapped) == {"fc1.o": 3, "fc2.o": 8}
        with surgery.at_widths(wrapped, 0.25):
            assert shapes() == (4, False, 2, 4)
        assert shapes() == (3, False, 8, 3)
    assert surgery.widths(wrapped) == {"fc1.o": 8, "fc2.o": 4} and wrapped.fc1.weight.shape == (8, 6)
    assert torch.equal(drawn, state_of(wrapped).generator.get_state()), "nothing was drawn"
    assert seen_widths(wrapped, 1) != [(8, 4)] and wrapped.training


DRAWS = [None, surgery.paper(p=0.7), surgery.paper(lower=3, step=4), surgery.shared(), surgery.grid([0.25, 1.0])]


@pytest.mark.parametrize("draw", DRAWS, ids=str)
def test_draws_repeat_from_a_seed(model: Net, draw: Any) -> None:
    def seeded(seed: int | None) -> list[tuple[int, ...]]:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return seen_widths(surgery.wrap(model, X, draw=draw, generator=generator), 12)

    torch.manual_seed(1)
    first = seeded(3)
    torch.manual_seed(2)
    assert first == seeded(3) and first != seeded(4) and seeded(None) == seeded(0)


def test_draws_keep_to_their_ranges(model: Net) -> None:
    def many(draw: Any, times: int = 200) -> list[tuple[int, ...]]:
        return seen_widths(surgery.wrap(model, X, draw=draw), times)

    assert {a for a, _ in many(surgery.paper(lower=3, step=4))} == {3, 7, 11, 15, 16}
    assert all(0 < a < 16 and 0 < b < 8 for a, b in many(surgery.paper(p=1.0)))
    assert set(many(surgery.paper(p=0.0), 10)) == {(16, 8)}
    independent = many(surgery.paper())
    assert 0.15 < sum(a == 16 and b == 8 for a, b in independent) / 200 < 0.35
    assert set(many(surgery.grid([0.25, 0.5]))) == {(4, 2), (8, 4)}
    assert all(abs(a - 2 * b) <= 1 or b == 1 for a, b in many(surgery.shared(p=1.0)))
    default = many(None, 400)
    assert (16, 8) in default and min(a for a, _ in default) <= 2, "the default visits both ends"
    assert any(abs(a - 2 * b) > 4 for a, b in default), "and mixed widths"


def test_a_draw_of_the_user(model: Net) -> None:
    asked = []

    def draw(plan: surgery.Plan, generator: torch.Generator) -> dict:
        asked.append((list(plan.groups), generator))
        return {"fc1": 0.5, "fc2.o": 3}

    generator = torch.Generator()
    assert seen_widths(surgery.wrap(model, X, draw=draw, generator=generator), 2) == [(8, 3)] * 2
    assert asked == [(["fc1.o", "fc2.o"], generator)] * 2
    assert seen_widths(surgery.wrap(model, X, draw=lambda plan, generator: {}), 1) == [(16, 8)]


OPTIONS: list[tuple[dict, dict[str, set[int]]]] = [
    (dict(granularity=4), {"fc1.o": {4, 8, 12, 16}, "fc2.o": {4, 8}}),
    (dict(granularity={"fc1.o": 8}, minimum={"fc2.*": 7}), {"fc1.o": {8, 16}, "fc2.o": {7, 8}}),
    (dict(minimum=15), {"fc1.o": {15, 16}, "fc2.o": {8}}),
    (dict(granularity=8, minimum=3), {"fc1.o": {8, 16}, "fc2.o": {8}}),
    (dict(granularity=100), {"fc1.o": {16}, "fc2.o": {8}}),
    (dict(fixed="fc1.o", minimum=7), {"fc2.o": {7, 8}}),
    (dict(fixed=["fc1"], granularity=8), {"fc2.o": {8}}),
    (dict(fixed="head", granularity=8), {"fc1.o": {8, 16}}),
    (dict(only="norm", granularity=8), {"fc1.o": {8, 16}}),
    (dict(only=["*.o"], fixed="*2.o", granularity=8), {"fc1.o": {8, 16}}),
]


@pytest.mark.parametrize(("options", "expected"), OPTIONS, ids=[str(o) for o, _ in OPTIONS])
def test_options_of_wrap(model: Net, options: dict, expected: dict[str, set[int]]) -> None:
    wrapped = surgery.wrap(
        model, X, draw=lambda p, g: {n: float(torch.rand(1, generator=g)) or 1 for n in p.groups}, **options
    )
    assert set(surgery.widths(wrapped)) == set(expected)
    seen = seen_widths(wrapped, 60)
    assert {a for a, _ in seen} == expected.get("fc1.o", {16})
    assert {b for _, b in seen} == expected.get("fc2.o", {8})


# --- buffers ---


def test_running_statistics_follow_the_slice(model: Net) -> None:
    wrapped = surgery.wrap(model, X, draw=lambda plan, generator: {"fc1.o": 5})
    before, x = model.norm.running_mean.clone(), X * 2 + 1
    with torch.no_grad():
        wrapped.train()(x)
        expected = 0.9 * before[:5] + 0.1 * F.linear(x, model.fc1.weight, model.fc1.bias)[:, :5].mean(0)
    assert torch.allclose(model.norm.running_mean[:5], expected)
    assert torch.equal(model.norm.running_mean[5:], before[5:]) and not torch.equal(
        model.norm.running_mean[:5], before[:5]
    )
    assert model.norm.num_batches_tracked == 1


class Flattened(nn.Module):
    """The norm sees channel-major positions: the features of 3 of 4 channels are no prefix in `(p c)`."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv1d(2, 4, 1), nn.BatchNorm1d(20), nn.Linear(20, 3)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x).transpose(1, 2).flatten(1)))


@pytest.mark.parametrize("steps", [1, 3])
def test_gathered_running_statistics_are_written_back(steps: int) -> None:
    model, x = Flattened(), torch.randn(6, 2, 5)
    wrapped = surgery.wrap(model, x, draw=lambda plan, generator: {"conv.o": 3})
    assert surgery.widths(wrapped) == {"conv.o": 4}
    small = surgery.shrink(wrapped, {"conv.o": 3}).train()
    wrapped.train()
    for i in range(steps):
        wrapped(x + i), small(x + i)
    for name in ("running_mean", "running_var"):
        full, kept = getattr(model.norm, name).view(5, 4), getattr(small.norm, name).view(5, 3)
        assert torch.allclose(full[:, :3], kept) and not kept.eq(full[0, 3]).any()
        assert torch.equal(full[:, 3], torch.full((5,), float(name == "running_var")))
    assert model.norm.num_batches_tracked == steps


class Caching(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.last = nn.Linear(6, 16), nn.Linear(16, 3), None

    def forward(self, x):
        y = self.fc1(x)
        if self.last is not None:
            y = y + self.last
        self.last = torch.zeros_like(y)
        return self.fc2(y)


def test_stored_tensors_do_not_survive_a_change_of_width() -> None:
    model = Caching()
    wrapped = surgery.wrap(model, X).eval()
    for width in (16, 5, 9):
        surgery.set_widths(wrapped, {"fc1.o": width})
        assert wrapped(X).shape == (5, 3)
        assert surgery.shrink(wrapped, {"fc1.o": width}).last is None
    assert model.last is None


# --- torch's fused and nested paths ---


class Encoder(nn.Module):
    def __init__(self, **options: Any):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(11, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True)
        self.encoder, self.out = nn.TransformerEncoder(layer, 2, **options), nn.Linear(16, 3)

    def forward(self, ids):
        return self.out(self.encoder(self.embed(ids), src_key_padding_mask=ids == 0))


IDS = torch.tensor([[3, 4, 5, 0, 0], [1, 2, 3, 4, 0], [5, 5, 6, 7, 8]])
ENCODERS: list[tuple[Any, bool]] = [  # widths, and whether all layers still have a fused path
    (1.0, True),
    (0.5, False),
    ({"*.linear1.o": 5}, True),
    ({"*.h": 2}, False),
    ({"*.h": 3, "embed.d": 12}, False),  # 3 heads of 4 are the embedding, but torch's fused path takes no odd heads
    ({"*.h": 2, "embed.d": 8}, True),
    ({"*0.self_attn.h": 2}, False),
]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.parametrize(("widths", "fused"), ENCODERS, ids=[str(w) for w, _ in ENCODERS])
def test_padded_encoders_with_nested_tensors(widths: Any, fused: bool) -> None:
    model = Encoder()
    with unchanged(model):
        wrapped = surgery.wrap(model, IDS)
        surgery.set_widths(wrapped, widths)
        small = surgery.shrink(wrapped, widths).eval()
    assert small.encoder.use_nested_tensor == fused and model.encoder.use_nested_tensor
    assert surgery.unwrap(wrapped).encoder.use_nested_tensor
    for context in (torch.no_grad, torch.enable_grad):
        with context():
            mine, theirs = wrapped.eval()(IDS), small(IDS)
        assert torch.allclose(mine[IDS != 0], theirs[IDS != 0], atol=1e-5)
    wrapped.train()(IDS).sum().backward()
    again = copy.deepcopy(wrapped).eval()
    with torch.no_grad():
        assert torch.equal(again(IDS), mine)


def test_an_encoder_that_takes_no_nested_tensors_takes_none_when_shrunk() -> None:
    small = surgery.shrink(Encoder(enable_nested_tensor=False), {"*.linear1.o": 5}, IDS)
    assert not small.encoder.use_nested_tensor


# --- autocast, checkpointing ---


@pytest.mark.parametrize("name", ["mlp", "resnet_basic", "vit_fused_qkv", "transformer_encoder"])
def test_autocast(name: str) -> None:
    case = BY_NAME[name]
    wrapped = surgery.wrap(case.build(), case.inputs(0), draw=lambda plan, generator: 0.5)
    small = surgery.shrink(wrapped, 0.5).train()
    wrapped.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mine, theirs = wrapped(*case.inputs(1)), small(*case.inputs(1))
    loss(mine.float()).backward(), loss(theirs.float()).backward()
    assert mine.dtype == theirs.dtype
    assert (mine - theirs).abs().max() <= 0.08 * theirs.abs().max()
    for (path, p), q in zip(wrapped.named_parameters(), small.parameters(), strict=True):
        assert p.grad.dtype == torch.float32 and p.grad.shape == p.shape, path
        assert abs(p.grad.norm() - q.grad.norm()) <= 0.1 * q.grad.norm() + 1e-2, path


class Block(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.gain = nn.Parameter(torch.ones(inner))

    def forward(self, x):
        return x + self.down(torch.tanh(self.up(x)) * self.gain)


class Checkpointed(nn.Module):
    """How blocks are recomputed: a module, a function of modules, or a method that reads parameters itself."""

    def __init__(self, way: str | None, reentrant: bool):
        super().__init__()
        self.stem, self.blocks = nn.Linear(6, 16), nn.ModuleList(Block(16, 24) for _ in range(2))
        self.head, self.scale = nn.Linear(16, 3), nn.Parameter(torch.linspace(1, 2, 16))
        self.way, self.reentrant = way, reentrant

    def last(self, x):
        return x * self.scale + F.linear(x, self.stem.weight @ self.stem.weight.t())

    def forward(self, x):
        x = self.stem(x)
        run = (
            (lambda f, x: checkpoint(f, x, use_reentrant=self.reentrant))
            if self.way and self.training
            else (lambda f, x: f(x))
        )
        if self.way == "functions":
            x = run(lambda x: self.blocks[1].down(torch.tanh(self.blocks[0].up(x)) * self.blocks[1].gain), x)
        for block in self.blocks:
            x = run(block, x)
        if self.way == "functions":
            return self.head(run(self.last, x))
        return self.head(self.last(x))


class Unchecked(Checkpointed):
    def forward(self, x):
        x = self.stem(x)
        if self.way == "functions":
            x = self.blocks[1].down(torch.tanh(self.blocks[0].up(x)) * self.blocks[1].gain)
        for block in self.blocks:
            x = block(x)
        return self.head(self.last(x))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("way", ["modules", "functions"])
@pytest.mark.parametrize("backward", ["at once", "first to last", "last to first", "after an eval run"])
def test_checkpointing_recomputes_at_its_own_widths(way: str, reentrant: bool, backward: str) -> None:
    results = []
    for cls in (Checkpointed, Unchecked):
        torch.manual_seed(0)
        wrapped = surgery.wrap(cls(way, reentrant).double(), X.double(), draw=surgery.paper(p=1.0)).train()
        surgery.set_widths(wrapped, 0.5)
        losses = [loss(wrapped(X.double() * (i + 1))) for i in range(3)]
        if backward == "after an eval run":
            with torch.no_grad():
                wrapped.eval()(X.double())
            wrapped.train()
        parts = [sum(losses)] if backward in ("at once", "after an eval run") else losses
        for part in parts[::-1] if backward == "last to first" else parts:
            part.backward()
        assert wrapped.stem.weight.shape == (8, 6), "afterwards it is at the widths that are set"
        results.append(gradients(wrapped))
    assert results[0].keys() == results[1].keys()
    for name, gradient in results[0].items():
        assert torch.allclose(gradient, results[1][name], rtol=1e-9, atol=1e-9), name


@pytest.mark.parametrize("reentrant", [True, False])
def test_the_whole_twin_checkpointed(reentrant: bool) -> None:
    results = []
    for run in (lambda f, x: checkpoint(f, x, use_reentrant=reentrant), lambda f, x: f(x)):
        torch.manual_seed(0)
        wrapped = surgery.wrap(Checkpointed(None, False).double(), X.double(), draw=surgery.paper(p=1.0)).train()
        for i in range(4):
            loss(run(wrapped, (X.double() * (i + 1)).requires_grad_())).backward()
        if not reentrant:
            sum(loss(run(wrapped, (X.double() * (i + 1)).requires_grad_())) for i in range(3)).backward()
        results.append(gradients(wrapped))
    for name, gradient in results[0].items():
        assert torch.allclose(gradient, results[1][name], rtol=1e-9, atol=1e-9), name


# --- parallel ---


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    dist = torch.distributed
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def _ddp(wrapped: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(wrapped, find_unused_parameters=False)


def _fsdp(wrapped: nn.Module) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (1,))
    fully_shard(wrapped.fc1, mesh=mesh)
    return fully_shard(wrapped, mesh=mesh)


@pytest.mark.parametrize("parallel", [_ddp, _fsdp])
def test_parallel_training_is_plain_training(process_group: None, parallel: Callable) -> None:
    def train(change: Callable) -> list[torch.Tensor]:
        torch.manual_seed(0)
        wrapped = change(surgery.wrap(Net(), X, draw=surgery.paper(p=0.8))).train()
        optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.01, momentum=0.9)
        for i in range(5):
            optimizer.zero_grad()
            loss(wrapped(X * (i + 1))).backward()
            optimizer.step()
        return [getattr(p, "full_tensor", lambda p=p: p)() for p in wrapped.parameters()]

    for a, b in zip(train(parallel), train(lambda wrapped: wrapped), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


class Shared(nn.Module):
    """Its parts pass something on in a container that both hold."""

    def __init__(self, table: dict[str, Any]) -> None:
        super().__init__()
        self.first, self.second = Writes(table), Reads(table)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


class Writes(nn.Module):
    def __init__(self, table: dict[str, torch.Tensor]):
        super().__init__()
        self.layer, self.table = nn.Linear(8, 6), table

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.table["skip"] = y = self.layer(x)
        return y.relu()


class Reads(nn.Module):
    def __init__(self, table: dict[str, torch.Tensor]):
        super().__init__()
        self.layer, self.table = nn.Linear(6, 3), table

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + self.table["skip"])


@pytest.mark.parametrize("table", [{}, {"size": 3}], ids=["empty", "with an integer"])
def test_a_container_that_modules_share_stays_shared(table: dict[str, Any]) -> None:
    model, x = Shared(table), torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    wrapped = surgery.wrap(model, x)
    small = surgery.shrink(wrapped, 0.5)
    assert small.first.layer.out_features == 3 and small.first.table is small.second.table
    with surgery.at_widths(wrapped, 0.5):
        torch.testing.assert_close(small(x), wrapped(x))


class Scale(nn.Module):
    """Writes a buffer, by its name or in the table of buffers, or reads it."""

    def __init__(self, direct: bool):
        super().__init__()
        self.register_buffer("scale", torch.zeros(1))
        self.direct, self.table = direct, self._buffers

    def forward(self, x: torch.Tensor, write: bool) -> torch.Tensor:
        if not write:
            return x * self.scale
        scale = x.mean().detach().reshape(1)
        if self.direct:
            self.scale = scale
        else:
            self.table["scale"] = scale
        return x


class Tables(nn.Module):
    """Two modules of which one is a shallow copy of the other: they share their tables."""

    def __init__(self, direct: bool):
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 3)
        self.one = Scale(direct)
        self.two = copy.copy(self.one)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.two(self.one(self.a(x), True), False))


@pytest.mark.parametrize("direct", [True, False])
def test_a_table_that_is_held_twice_is_one_table(direct: bool) -> None:
    model, x = Tables(direct), torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    expected = model(x)
    wrapped = surgery.wrap(model, x)
    small = surgery.shrink(wrapped, 0.5)
    assert small.a.out_features == 3 and small.one.table is small.one._buffers is small.two._buffers
    torch.testing.assert_close(wrapped.eval()(x), expected)


# --- shrink ---


@pytest.mark.parametrize("name", NAMES)
def test_a_shrunk_model_is_plain_and_independent(name: str) -> None:
    case = BY_NAME[name]
    model = case.build().train()
    frozen = next(iter(model.parameters())).requires_grad_(False)
    next(iter(model.children())).eval()
    wrapped = surgery.wrap(model, case.inputs(0))
    with unchanged(model, wrapped):
        small = surgery.shrink(wrapped, 0.5)
    assert type(small) is type(model) and not next(iter(small.parameters())).requires_grad and not frozen.requires_grad
    assert [p.requires_grad for p in small.parameters()] == [p.requires_grad for p in model.parameters()]
    assert [m.training for m in small.modules()] == [m.training for m in copy.deepcopy(model).modules()]
    assert [p.dtype for p in small.parameters()] == [p.dtype for p in model.parameters()]
    replaced = set(small.surgery_record["replaced"])
    for (path, a), b in zip(small.named_modules(), model.modules(), strict=True):
        assert type(a) is type(b) or (path in replaced and type(a) is surgery.MultiheadAttention)
        extra = set(vars(a)) - set(vars(b)) - {"surgery_record", "forward", "head_dim"}
        assert all(key.startswith(("surgery_size_", "surgery_seen_")) for key in extra), extra
    old = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers()) if t.numel()}
    assert not old & {t.untyped_storage().data_ptr() for t in (*small.parameters(), *small.buffers()) if t.numel()}
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_shrunk_models_are_saved_and_copied_as_any_model(name: str) -> None:
    case = BY_NAME[name]
    wrapped = surgery.wrap(case.build(), case.inputs(0))
    small, other = surgery.shrink(wrapped, 0.5), surgery.shrink(case.build(), 0.5, case.inputs(0))
    file = io.BytesIO()
    torch.save(small.state_dict(), file)
    file.seek(0)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    other.load_state_dict(torch.load(file, weights_only=True))
    for twin in (other, _saved(small), _pickled(small), copy.deepcopy(small)):
        assert surgery.verify(small, twin, case.inputs(1)) == 0
    changed = copy.deepcopy(small)
    with torch.no_grad():
        for p in changed.parameters():
            p.zero_()
    assert surgery.verify(small, other, case.inputs(1)) == 0


MIXED = ["mlp", "resnet_basic", "lenet", "vit_fused_qkv", "transformer_encoder"]


def mixed(name: str) -> tuple[nn.Module, tuple]:
    """A shrunk model at a different fraction for every group."""
    case = BY_NAME[name]
    wrapped = surgery.wrap(case.build(), case.inputs(0))
    fractions = {group: (0.75, 0.5, 0.25)[i % 3] for i, group in enumerate(surgery.widths(wrapped))}
    small = surgery.shrink(wrapped, fractions).eval()
    record = small.surgery_record
    assert bool(record["rewritten"]) == (name in ("lenet", "vit_fused_qkv")) or name == "transformer_encoder"
    assert bool(record["replaced"]) == (name == "transformer_encoder")
    return small, case.inputs(1)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", MIXED)
def test_shrunk_models_compile(name: str, training: bool) -> None:
    small, inputs = mixed(name)
    small.train(training)
    for module in small.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.0
    expected = small(*inputs)
    torch._dynamo.reset()
    compiled = torch.compile(small, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(*inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MIXED)
def test_shrunk_models_export(name: str) -> None:
    small, inputs = mixed(name)
    exported = torch.export.export(small, inputs)
    assert torch.allclose(exported.module()(*inputs), small(*inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 8e-2), (torch.float16, 2e-2), (torch.float64, 1e-9)])
@pytest.mark.parametrize("name", ["mlp", "resnet_basic", "vit_fused_qkv", "transformer_encoder", "lstm_tagger"])
def test_shrinking_in_other_precisions(name: str, dtype: torch.dtype, tolerance: float) -> None:
    def cast(t: torch.Tensor) -> torch.Tensor:
        return t.to(dtype) if t.is_floating_point() else t

    case = BY_NAME[name]
    model = case.build().to(dtype)
    wrapped = surgery.wrap(model, tuple(map(cast, case.inputs(0))))
    small = surgery.shrink(wrapped, 0.5)
    assert {t.dtype for t in small.parameters()} == {dtype}
    with surgery.at_widths(wrapped, 0.5):
        assert surgery.verify(wrapped, small, tuple(map(cast, case.inputs(1)))) <= tolerance


@pytest.mark.parametrize("name", NAMES)
def test_shrinking_a_shrunk_model_is_shrinking_at_once(name: str) -> None:
    case = BY_NAME[name]
    inputs = tuple(t.double() if t.is_floating_point() else t for t in case.inputs(0))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = case.build().double()
        wrapped = surgery.wrap(model, inputs)
        half = surgery.shrink(wrapped, 0.5)
        left = surgery.inspect(half, inputs).groups
        target = {
            name: max(1, group.size // 2 // group.granularity) * group.granularity for name, group in left.items()
        }
        again = surgery.shrink(half, target, inputs)
        whole = {**half.surgery_record["widths"], **target}
        kept = {name for name, width in half.surgery_record["widths"].items() if width > 1}
        if set(left) == kept:  # a group of width 1 is gone, and with it a number in the names of its neighbours
            assert surgery.verify(again, surgery.shrink(wrapped, whole), inputs, tolerance=1e-9) <= 1e-9
            assert surgery.verify(again, surgery.shrink(model, whole, inputs), inputs, tolerance=1e-9) <= 1e-9
    finally:
        torch.set_default_dtype(before)


def test_widths_round_to_a_multiple() -> None:
    model = nn.Sequential(
        nn.Linear(6, 50), nn.ReLU(), nn.Linear(50, 20), nn.ReLU(), nn.Linear(20, 5), nn.ReLU(), nn.Linear(5, 3)
    )
    for fraction, expected in ((0.5, [24, 8, 5]), (0.6, [32, 16, 5]), (0.01, [8, 8, 5]), (1.0, [50, 20, 5])):
        small = surgery.shrink(model, fraction, X, multiple=8)
        assert [layer.out_features for layer in small if isinstance(layer, nn.Linear)] == [*expected, 3], fraction


def test_several_inputs() -> None:
    class Either(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Linear(6, 12), nn.Linear(4, 12), nn.Linear(12, 3)

        def forward(self, pair, *, which="a"):
            x, _ = pair
            return {"y": self.head(torch.relu(getattr(self, which)(x)))}

    model = Either()
    one = surgery.inputs((X, None))
    two = surgery.inputs((X[:, :4], [X]), which="b")
    assert not surgery.inspect(model, one).groups, "b could receive what the example inputs do not reach"
    wrapped = surgery.wrap(model, surgery.batches([one, two]))
    assert list(surgery.widths(wrapped)) == ["a.o"]
    small = surgery.shrink(wrapped, 0.5)
    assert small((X, None))["y"].shape == (5, 3)
    assert small((X[:, :4], None), which="b")["y"].shape == (5, 3) and small.b.out_features == 6


# --- rescaling ---


@pytest.mark.parametrize("norm", [False, True])
def test_rescaling_is_size_over_width_before_the_activation(norm: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16) if norm else nn.Identity(), nn.ReLU(), nn.Linear(16, 3)
    ).double()
    if norm:
        model[1].weight.data.uniform_(0.5, 2), model[1].bias.data.normal_(), model[1].running_mean.normal_()
    x = X.double()
    wrapped = surgery.wrap(model.eval(), x, draw=surgery.paper(p=1.0, rescale=True))
    (group,) = surgery.widths(wrapped)
    for width in (1, 5, 16):
        surgery.set_widths(wrapped, {group: width})
        features = model[1](model[0](x))[:, :width] * (16 / width)
        expected = F.linear(torch.relu(features), model[3].weight[:, :width], model[3].bias)
        assert torch.allclose(wrapped(x), expected, rtol=1e-12)
        small = surgery.shrink(wrapped, {group: width})
        assert torch.allclose(small(x), expected, rtol=1e-12) and small[0].out_features == width


@pytest.mark.parametrize("name", ["mlp", "resnet_basic", "vgg", "lenet", "unet"])
def test_rescaling_survives_shrinking(name: str) -> None:
    case = BY_NAME[name]
    inputs = tuple(t.double() for t in case.inputs(0))
    wrapped = surgery.wrap(case.build().double(), inputs, draw=surgery.paper(p=1.0, rescale=True))
    plain = surgery.wrap(case.build().double(), inputs)
    for fraction in (0.25, 0.6):
        small = surgery.shrink(wrapped, fraction)
        with surgery.at_widths(wrapped, fraction):
            assert surgery.verify(wrapped, small, tuple(t.double() for t in case.inputs(1)), tolerance=1e-9) <= 1e-9
        with pytest.raises(surgery.ProofError):
            surgery.verify(small, surgery.shrink(plain, fraction), inputs)


def test_rescaling_that_cannot_be_folded_is_refused() -> None:
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.head = nn.Parameter(torch.randn(6, 16)), nn.Linear(16, 3)

        def forward(self, x):
            return self.head(torch.relu(x @ self.weight))

    model, draw = Bare(), surgery.paper(rescale=True)
    with unchanged(model), pytest.raises(surgery.InputError, match=r"rescale=True cannot be folded .*.*group weight"):
        surgery.wrap(model, X, draw=draw)


# --- reorder ---


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor, lambda order: torch.tensor(order).int()])
@pytest.mark.parametrize("twin", [True, False])
def test_reorder_moves_units(model: Net, kind: Callable, twin: bool) -> None:
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1)).tolist()
    model.norm.running_mean.uniform_()
    given = surgery.wrap(model, X) if twin else model
    if twin:
        surgery.set_widths(given, 0.5)
    with unchanged(model, given):
        moved = surgery.reorder(given, {"fc1.o": kind(order)}, None if twin else X)
    assert torch.equal(moved.fc1.weight, model.fc1.weight[order]) and torch.equal(moved.fc1.bias, model.fc1.bias[order])
    assert torch.equal(moved.norm.running_mean, model.norm.running_mean[order])
    assert torch.equal(moved.fc2.weight, model.fc2.weight[:, order]) and torch.equal(moved.fc2.bias, model.fc2.bias)
    assert surgery.verify(moved, model, X) <= 1e-5
    assert not {id(t) for t in moved.parameters()} & {id(t) for t in model.parameters()}


@pytest.mark.parametrize("name", ["llama_gqa", "rope_interleaved"])
def test_reordering_what_a_state_dict_does_not_hold(name: str, tmp_path: Path) -> None:
    case = BY_NAME[name]
    model = case.build()
    orders = {group: list(range(g.size))[::-1] for group, g in surgery.inspect(model, case.inputs(0)).groups.items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        moved = surgery.reorder(model, orders, case.inputs(0))
    lost = {n for n, _ in model.named_buffers()} - set(model.state_dict())
    if lost:
        assert len(caught) == 1 and all(n in str(caught[0].message) for n in lost if "inv" in n or "freq" in n)
    surgery.save(moved, tmp_path / "moved")
    loaded = surgery.load(tmp_path / "moved", case.build(), case.inputs(0))
    assert surgery.verify(loaded, moved, case.inputs(1)) == 0


def test_reentrant_checkpoints_around_the_twin_are_refused_where_widths_are_lost() -> None:
    """Several such forwards before one backward: their widths cannot be told apart, so nothing is guessed."""
    x = torch.randn(3, 4)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    wrapped = surgery.wrap(model, x, draw=surgery.paper(p=1.0)).train()
    run = functools.partial(checkpoint, wrapped, use_reentrant=True)
    run(x.clone().requires_grad_()).sum().backward()
    several = sum(run(x.clone().requires_grad_()).sum() for _ in range(3))
    with pytest.raises(surgery.InputError, match="use_reentrant=False"):
        several.backward()


class Chosen(nn.Module):
    """Has no forward in its class: its constructor chooses one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.forward = self.shifted

    def shifted(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + 1


def test_a_module_whose_constructor_chooses_its_forward() -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), Chosen(), nn.Linear(4, 2)), torch.randn(5, 3)
    wrapped = surgery.wrap(model, x)
    small = surgery.shrink(wrapped, 0.5)
    with surgery.at_widths(wrapped, 0.5):
        surgery.verify(wrapped, small, x)
    assert small[1].inner.out_features == 2 and wrapped[1].forward.__self__ is not model[1]
