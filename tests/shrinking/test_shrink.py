"""A shrunk model is a plain model of its own: saved, compiled, exported and shrunk again as any other."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

import surgery
from tests.copies import pickled, saved
from tests.models import BY_NAME, REPRESENTATIVE
from tests.small_models import X, mlp
from tests.unchanged import unchanged


@pytest.mark.parametrize("name", REPRESENTATIVE)
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
    assert not any(module.training for module in small.modules())
    assert [p.dtype for p in small.parameters()] == [p.dtype for p in model.parameters()]
    replaced = set(small.surgery_record["replaced"])
    for (path, a), b in zip(small.named_modules(), model.modules(), strict=True):
        assert type(a) is type(b) or (path in replaced and type(a) is surgery.MultiheadAttention)
        extra = set(vars(a)) - set(vars(b)) - {"surgery_record", "forward", "_get_name", "head_dim"}
        assert all(key.startswith(("surgery_size_", "surgery_seen_")) for key in extra), extra
    old = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers()) if t.numel()}
    assert not old & {t.untyped_storage().data_ptr() for t in (*small.parameters(), *small.buffers()) if t.numel()}
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", REPRESENTATIVE)
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
    for twin in (other, saved(small), pickled(small), copy.deepcopy(small)):
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


@pytest.mark.parametrize("name", REPRESENTATIVE)
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
    model = mlp(6, 50, 20, 5, 3)
    for fraction, expected in ((0.5, [24, 8, 5]), (0.6, [32, 16, 5]), (0.01, [8, 8, 5]), (1.0, [50, 20, 5])):
        small = surgery.shrink(model, fraction, X, multiple=8)
        assert [layer.out_features for layer in small if isinstance(layer, nn.Linear)] == [*expected, 3], fraction
