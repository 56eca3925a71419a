"""Mixtures of experts as transformers writes them, in each of its ways to run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import surgery
from surgery.plan.groups import EXPERTS
from surgery.twin.setting import plan_of
from tests.laws.laws import cost_is_counted

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = pytest.mark.slow

SMALL = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "num_experts_per_tok": 2,
}  # fmt: skip
LATENT = {
    "num_key_value_heads": 4, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "v_head_dim": 4,
    "qk_nope_head_dim": 4, "first_k_dense_replace": 1, "n_shared_experts": 1,
}  # fmt: skip

# The class, its configuration, and the sizes and smallest widths of the groups of experts in each layer of them.
MODELS: dict[str, tuple[str, dict[str, Any], list[tuple[int, int]]]] = {
    "Mixtral": ("MixtralForCausalLM", {"num_local_experts": 6}, [(6, 2)] * 2),
    "Qwen2Moe": (
        "Qwen2MoeForCausalLM",
        {"num_experts": 6, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 24, "decoder_sparse_step": 1},
        [(6, 2)] * 2,
    ),
    "Qwen3Moe": ("Qwen3MoeForCausalLM", {"num_experts": 6, "moe_intermediate_size": 8, "head_dim": 4}, [(6, 2)] * 2),
    "DeepseekV3": (
        "DeepseekV3ForCausalLM",
        {**LATENT, "n_routed_experts": 12, "n_group": 3, "topk_group": 2, "moe_intermediate_size": 8},
        [(3, 2), (4, 2)],
    ),
}  # fmt: skip
TOKENS = torch.randint(0, 40, (2, 16), generator=torch.Generator().manual_seed(1))
INPUTS = surgery.inputs(input_ids=TOKENS)


def built(name: str, implementation: str | None = "eager", **more: Any) -> nn.Module:
    cls, options, _ = MODELS[name]
    config = getattr(transformers, f"{name}Config")(**{**SMALL, **options, **more})
    kwargs = {} if implementation is None else {"experts_implementation": implementation}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = getattr(transformers, cls)._from_config(config, **kwargs).eval()
        for parameter in model.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
    return model


def experts(plan: surgery.Plan) -> dict[str, surgery.Group]:
    return {name: group for name, group in plan.groups.items() if group.kind == EXPERTS}


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm", "batched_mm", None])
@pytest.mark.parametrize("name", MODELS)
def test_the_number_of_experts_is_a_width(name: str, implementation: str | None, tmp_path) -> None:
    model = built(name, implementation)
    wrapped = surgery.wrap(model, INPUTS, experts=True)
    groups = experts(plan_of(wrapped))
    assert [(group.size, group.least) for group in groups.values()] == MODELS[name][2]
    generator = torch.Generator().manual_seed(0)
    surgery.reorder(wrapped, {n: torch.randperm(g.size, generator=generator) for n, g in groups.items()})
    other = surgery.inputs(input_ids=TOKENS.flip(1)[:, :11])
    for share in (0, 0.5, 0.75):
        widths = {n: g.at_least(int(g.size * share)) for n, g in groups.items()}
        small = surgery.shrink(wrapped, widths)
        with surgery.at_widths(wrapped, widths):
            surgery.verify(wrapped, small, other)
        cost_is_counted(wrapped, small, widths, INPUTS, macs=False)
    surgery.save(small, tmp_path / "small")
    surgery.verify(small, surgery.load(tmp_path / "small", built(name, implementation), INPUTS), other)


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm"])
def test_experts_are_fewer_with_every_other_width(implementation: str) -> None:
    wrapped = surgery.wrap(built("Mixtral", implementation), INPUTS, experts=True)
    small = surgery.shrink(wrapped, 0.5)
    with surgery.at_widths(wrapped, 0.5):
        surgery.verify(wrapped, small, INPUTS)
    assert small.model.layers[0].mlp.experts.gate_up_proj.shape[0] == 3
    tokens = small.generate(TOKENS[:, :4], max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert torch.equal(tokens, small.generate(TOKENS[:, :4], max_new_tokens=6, do_sample=False, use_cache=False,
                                              pad_token_id=0))  # fmt: skip


def test_a_small_mixtral_is_saved_as_its_own_library_does(tmp_path) -> None:
    wrapped = surgery.wrap(built("Mixtral"), INPUTS, experts=True)
    names = list(experts(plan_of(wrapped)))
    small = surgery.shrink(wrapped, dict.fromkeys(names, 4))
    assert small.config.num_local_experts == 4
    small.save_pretrained(tmp_path)
    again = transformers.MixtralForCausalLM.from_pretrained(tmp_path, experts_implementation="eager").eval()
    surgery.verify(small, again, INPUTS)


def test_router_logits_that_are_returned_pin_the_experts() -> None:
    """The loss that balances them adds over layers, so that all layers have as many."""
    inputs = surgery.inputs(input_ids=TOKENS, output_router_logits=True)
    plan = surgery.inspect(built("Mixtral"), inputs, experts=True)
    assert not experts(plan)
    assert any("chosen from, and no group: it is an output of the model" in note for note in plan.notes)
    counted: Callable[[Any], Any] = lambda out: out.logits  # noqa: E731
    model = built("Mixtral")
    model(**inputs.kwargs)  # it puts the hooks that collect these logits onto its modules once
    wrapped = surgery.wrap(model, inputs, experts=True, outputs=counted)
    ((name, group),) = experts(plan_of(wrapped)).items()
    assert group.size == 6 and len(group.cuts) == 6
    small = surgery.shrink(wrapped, {name: 3})
    with surgery.at_widths(wrapped, {name: 3}):
        surgery.verify(wrapped, small, inputs)


def switch() -> nn.Module:
    config = transformers.SwitchTransformersConfig(
        vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_sparse_encoder_layers=1, num_heads=4,
        num_experts=4, expert_capacity=4,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.SwitchTransformersEncoderModel(config).eval()


def test_modules_that_a_switch_chooses_are_units(tmp_path) -> None:
    wrapped = surgery.wrap(switch(), INPUTS, experts=True)
    ((name, group),) = experts(plan_of(wrapped)).items()
    (listed,) = group.lists
    assert listed.path == "encoder.block.1.layer.1.mlp.experts" and not listed.renumbered
    assert listed.units == tuple((f"expert_{i}",) for i in range(4))
    assert {name.rpartition(".")[2] for name in group.sets} == {"out_features", "num_experts"}
    surgery.reorder(wrapped, {name: [2, 0, 3, 1]})
    for width in (1, 2, 3):
        small = surgery.shrink(wrapped, {name: width})
        assert list(small.get_submodule(listed.path)._modules) == [f"expert_{i}" for i in range(width)]
        with surgery.at_widths(wrapped, {name: width}):
            surgery.verify(wrapped, small, surgery.inputs(input_ids=TOKENS.flip(1)[:, :11]))
        cost_is_counted(wrapped, small, {name: width}, INPUTS, macs=False)  # what has no room is dropped
    surgery.save(small, tmp_path / "small")
    surgery.verify(small, surgery.load(tmp_path / "small", switch(), INPUTS), INPUTS)


@pytest.mark.parametrize("name", MODELS)
def test_half_the_experts_in_half_the_layers(name: str, tmp_path) -> None:
    model = built(name, num_hidden_layers=4)
    wrapped = surgery.wrap(model, INPUTS, experts=True, depth=True)
    plan, half = plan_of(wrapped), {"experts": 0.5, "depth": 0.5}
    (depth,) = (group for group in plan.groups.values() if group.kind == "depth")
    assert (depth.size, depth.least) == (4, 1)
    small = surgery.shrink(wrapped, half)
    assert small.config.num_hidden_layers == len(small.model.layers) == 2
    with surgery.at_widths(wrapped, half):
        surgery.verify(wrapped, small, surgery.inputs(input_ids=TOKENS.flip(1)[:, :11]))
        cost_is_counted(wrapped, small, surgery.widths(wrapped), INPUTS, macs=False)
    said: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    tokens = small.generate(TOKENS[:, :4], **said)
    assert torch.equal(tokens, small.generate(TOKENS[:, :4], use_cache=False, **said))
    with surgery.at_widths(wrapped, half):
        assert torch.equal(tokens, wrapped.generate(TOKENS[:, :4], **said))
    small.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path, experts_implementation="eager").eval()
    surgery.verify(small, again, INPUTS)


@pytest.mark.slow
def test_a_loss_over_all_routers_counts_the_experts_that_are_there():
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=6,
    )  # fmt: skip
    ids = torch.randint(3, 64, (4, 24))
    twin = surgery.wrap(
        transformers.MixtralForCausalLM(config), {"input_ids": ids}, experts=True, depth=True, tie="experts"
    )
    for _ in range(8):
        twin.train()(ids, labels=ids, output_router_logits=True).loss.backward()
    small = surgery.shrink(twin.eval(), {"experts": 3, "depth": 2})
    assert small.num_experts == small.config.num_local_experts == 3
    assert small(ids, labels=ids, output_router_logits=True).loss.isfinite()
