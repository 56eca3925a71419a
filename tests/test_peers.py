"""What other libraries get wrong, and what their users ask for, passes here: every row of `tests/peers.py`."""

from __future__ import annotations

import functools
import linecache
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import surgery
import tests.models
from surgery.twin.setting import plan_of
from tests.laws.laws import order_is_free, random_widths, shrunk_is_wrapped, smallest
from tests.models import BY_NAME
from tests.peers import FAILURES, Failure

MODELS = Path(tests.models.__file__).parent
# What any model has: it is fixed by what goes in and out.
INTERFACE = (
    "it is an input of the model",
    "it is an output of the model",
    "a single value has no width",
    "positions of",
)


pytestmark = pytest.mark.usefixtures("double")
NAMED = pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
ELASTIC = {name: failure for name, failure in FAILURES.items() if failure.groups}
WITH_GROUPS = pytest.mark.parametrize("failure", ELASTIC.values(), ids=ELASTIC)


@functools.cache
def made(case: str) -> tuple[nn.Module, nn.Module]:
    """A model, and its twin; nothing here changes them."""
    model = BY_NAME[case].build().double().eval()
    return model, surgery.wrap(model, BY_NAME[case].inputs(0)).eval()


def ties(model: nn.Module) -> list[list[str]]:
    """The names of each parameter, those of a tied one together."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return list(names.values())


def line_of(reason: str) -> str:
    """The line of the model's source that a reason names."""
    file, line = re.findall(r"(\w+\.py):(\d+)", reason)[0]
    return linecache.getline(str(MODELS / file), int(line))


@NAMED
def test_what_is_elastic_and_what_is_pinned(failure: Failure) -> None:
    case = BY_NAME[failure.case]
    plan = surgery.inspect(case.build().double().eval(), case.inputs(0))
    assert {group.name: group.size for group in plan.groups.values()} == failure.groups
    reasons = {item.tensor: item.reason for item in plan.fixed}
    for tensor, reason in failure.pinned.items():
        assert reason in reasons[tensor]
        assert failure.code in line_of(reasons[tensor]) if failure.code else True
    known = (*failure.pinned.values(), *INTERFACE)
    assert all(any(reason in text for reason in known) for text in reasons.values()), "nothing else is fixed"


@pytest.mark.parametrize("name", [name for name in FAILURES if name not in ELASTIC])
def test_a_model_without_axes_is_refused_for_its_reason(name: str) -> None:
    case = BY_NAME[FAILURES[name].case]
    with pytest.raises(surgery.InputError, match=next(iter(FAILURES[name].pinned.values()))):
        surgery.wrap(case.build(), case.inputs(0))


@WITH_GROUPS
def test_the_order_of_every_group_is_free(failure: Failure) -> None:
    model, wrapped = made(failure.case)
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        order_is_free(model, plan_of(wrapped), BY_NAME[failure.case].inputs(1), generator)


@WITH_GROUPS
def test_small_models_at_mixed_widths_are_the_wrapped_one(failure: Failure) -> None:
    model, wrapped = made(failure.case)
    plan, generator = plan_of(wrapped), torch.Generator().manual_seed(0)
    for widths in (smallest(plan), random_widths(plan, generator), random_widths(plan, generator)):
        small = shrunk_is_wrapped(wrapped, widths, BY_NAME[failure.case].inputs(1))
        assert ties(small) == ties(model)
        sizes = [parameter.numel() for parameter in small.parameters()]
        assert sum(sizes) == surgery.cost(wrapped, widths).params


# What users ask for again and again. A latency table of one's own device, and the warning where fewer multiply-adds do
# not mean less time, are `sweep`'s: tests/test_sweep.py.
ATTRIBUTES: dict[str, tuple[str, dict[str, Any], dict[str, int]]] = {
    "grouped queries": (
        "llama_gqa", {"layers.0.self_attn.q_proj.o.0": 2, "layers.1.self_attn.q_proj.o.1": 1, "*.q_proj.o.2": 2},
        {"layers.0.self_attn.num_heads": 4, "layers.0.self_attn.num_key_value_heads": 2,
         "layers.0.self_attn.num_key_value_groups": 2, "layers.0.self_attn.head_dim": 4,
         "layers.1.self_attn.num_heads": 4, "layers.1.self_attn.num_key_value_heads": 4,
         "layers.1.self_attn.num_key_value_groups": 1, "layers.1.self_attn.q_proj.out_features": 16}),
    "nn.MultiheadAttention": (
        "attention_alone", {"embed.o": 16, "attention.h": 2},
        {"embed.out_features": 16, "attention.embed_dim": 16, "attention.num_heads": 2, "attention.head_dim": 8}),
    "a fused projection": (
        "vit_fused_qkv", {"blocks.0.attn.qkv.o.0": 3, "blocks.0.attn.qkv.o.1": 4},
        {"blocks.0.attn.num_heads": 3, "blocks.0.attn.qkv.out_features": 36, "blocks.0.attn.proj.in_features": 12}),
    "an LSTM": ("lstm_tagger", {"lstm.h": 5}, {"lstm.hidden_size": 5, "hidden2tag.in_features": 10}),
    "a grouped convolution": (
        "grouped_deconv", {"conv1.o.0": 3, "between.o": 2},
        {"conv1.out_channels": 18, "bn1.num_features": 18, "between.groups": 3, "between.in_channels": 18,
         "between.out_channels": 6, "conv2.in_channels": 6}),
    "PReLU": ("prelu", {"between.0.o": 9}, {"between.0.out_channels": 9, "between.1.num_parameters": 9}),
    "an embedding": ("tied_embeddings", {"embedding.d": 8}, {"embedding.embedding_dim": 8, "head.in_features": 8}),
}  # fmt: skip


def attribute(model: nn.Module, path: str) -> Any:
    owner, _, name = path.rpartition(".")
    return getattr(model.get_submodule(owner), name)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_are_right_after_slicing(name: str) -> None:
    case, widths, expected = ATTRIBUTES[name]
    small = surgery.shrink(made(case)[1], widths)
    assert {path: attribute(small, path) for path in expected} == expected


@pytest.mark.parametrize("case", ["llama_gqa", "gpt2", "tied_embeddings", "attention_alone", "lstm_tagger", "densenet"])
def test_small_models_are_saved_and_read_again(case: str, tmp_path: Path) -> None:
    model, wrapped = made(case)
    inputs = BY_NAME[case].inputs(0)
    small = surgery.shrink(wrapped, random_widths(plan_of(wrapped), torch.Generator().manual_seed(3)))
    surgery.save(small, tmp_path / "small")
    torch.save(small, tmp_path / "whole")
    for read in (surgery.load(tmp_path / "small", model, inputs), torch.load(tmp_path / "whole", weights_only=False)):
        surgery.verify(small, read, BY_NAME[case].inputs(1))
        assert ties(read) == ties(model)


def test_a_small_llama_with_8_query_and_4_key_value_heads_goes_into_hugging_face(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the model is that of transformers: pip install it")
    from tests.zoo.transformers_models import build

    transformers.logging.disable_progress_bar()
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    built = build("llama", num_attention_heads=8, num_key_value_heads=4, head_dim=8, use_cache=False)
    small = surgery.shrink(built.model.eval(), {"*.q_proj.o.0": 2, "*.mlp.gate_proj.o": 0.5}, built.inputs(0))
    small.save_pretrained(tmp_path)
    read = type(small).from_pretrained(tmp_path).eval()
    assert (read.config.num_attention_heads, read.config.num_key_value_heads) == (4, 2)
    surgery.verify(small, read, built.inputs(1))


@pytest.mark.parametrize("multiple", [4, 8, 16])
def test_widths_are_rounded_to_what_hardware_likes(multiple: int) -> None:
    wrapped = made("mobilenet_v2")[1]
    small, plan = surgery.shrink(wrapped, 0.5, multiple=multiple), plan_of(wrapped)
    widths = small.surgery_record["widths"]
    assert all(
        widths[g.name] == g.size if g.size < multiple else widths[g.name] % multiple == 0 for g in plan.groups.values()
    )
    with surgery.at_widths(wrapped, widths):
        surgery.verify(wrapped, small, BY_NAME["mobilenet_v2"].inputs(1), tolerance=1e-9)


@pytest.mark.parametrize("only, fixed", [(["layer2.0.conv1.o", "layer3.*"], []), ([], ["conv1", "layer2.1"])], ids=str)
def test_only_some_layers_are_pruned(only: list[str], fixed: list[str]) -> None:
    model, whole = made("resnet_basic")
    every = plan_of(whole)
    wanted = {g for p in only for g in every.find(p)} or set(every.groups) - {g for p in fixed for g in every.find(p)}
    wrapped = surgery.wrap(model, BY_NAME["resnet_basic"].inputs(0), only=only, fixed=fixed)
    assert wanted and set(plan_of(wrapped).groups) == wanted < set(every.groups)
    small = shrunk_is_wrapped(wrapped, plan_of(wrapped).widths(0.5), BY_NAME["resnet_basic"].inputs(1))
    cut = {tensor for name in wanted for tensor, _ in every.groups[name].cuts}
    for name, tensor in small.state_dict().items():
        assert (tensor.shape != model.state_dict()[name].shape) == (name in cut), name
