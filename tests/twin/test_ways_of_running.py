"""The twin under what PyTorch does around a forward: fused paths, autocast, checkpoints, parallel training."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import surgery
from tests.laws.laws import loss
from tests.models import BY_NAME
from tests.small_models import Net, X, mlp
from tests.unchanged import unchanged


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


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


class Block(nn.Module):
    """Its first layer makes two parts of one width: what is cut of it is gathered, and no prefix."""

    def __init__(self, c: int, inner: int):
        super().__init__()
        self.up, self.down = nn.Linear(c, 2 * inner), nn.Linear(inner, c)
        self.gain = nn.Parameter(torch.linspace(0.5, 1.5, inner))

    def gated(self, x):
        a, b = self.up(x).chunk(2, -1)
        return torch.tanh(a) * torch.sigmoid(b)

    def forward(self, x):
        return x + self.down(self.gated(x) * self.gain)


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
            x = run(lambda x: self.blocks[1].down(self.blocks[0].gated(x) * self.blocks[1].gain), x)
        for block in self.blocks:
            x = run(block, x)
        if self.way == "functions":
            return self.head(run(self.last, x))
        return self.head(self.last(x))


class Unchecked(Checkpointed):
    def forward(self, x):
        x = self.stem(x)
        if self.way == "functions":
            x = self.blocks[1].down(self.blocks[0].gated(x) * self.blocks[1].gain)
        for block in self.blocks:
            x = block(x)
        return self.head(self.last(x))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("way", ["modules", "functions"])
@pytest.mark.parametrize("backward", ["at once", "first to last", "last to first", "after an eval run"])
@pytest.mark.parametrize("rescale", [False, True])
def test_checkpointing_recomputes_at_its_own_widths(way: str, reentrant: bool, backward: str, rescale: bool) -> None:
    results = []
    for cls in (Checkpointed, Unchecked):
        torch.manual_seed(0)
        draw = surgery.paper(p=1.0, rescale=rescale)
        wrapped = surgery.wrap(cls(way, reentrant).double(), X.double(), draw=draw).train()
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


@pytest.mark.filterwarnings("ignore:forwards without gradients draw widths")
def test_reentrant_checkpoints_around_the_twin_are_refused_where_widths_are_lost() -> None:
    """Several such forwards before one backward: their widths cannot be told apart, so nothing is guessed."""
    x = torch.randn(3, 4)
    wrapped = surgery.wrap(mlp(4, 8, 2), x, draw=surgery.paper(p=1.0)).train()
    run = functools.partial(checkpoint, wrapped, use_reentrant=True)
    run(x.clone().requires_grad_()).sum().backward()
    several = sum(run(x.clone().requires_grad_()).sum() for _ in range(3))
    with pytest.raises(surgery.InputError, match="use_reentrant=False"):
        several.backward()


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
