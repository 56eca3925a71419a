"""Tiny models of transformers: small ones generate, token by token, what the wrapped one does at these widths."""

from __future__ import annotations

import copy
import io
import tempfile
from typing import Any

import pytest
import torch

import surgery
from tests.zoo.transformers_models import build

transformers = pytest.importorskip("transformers", reason="the models are those of transformers: pip install it")

HEADS, MLP, WIDTH = "*.q_proj.o.1", "*.mlp.gate_proj.o", "model.embed_tokens.d"
# What a config tells, and what no config of the class can tell. A group of heads is that of `q_proj`: "o.0" are the
# key-value heads, "o.1" the query heads for each.
TOLD: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "llama 4 and 2 heads": (
        "llama", {}, {"*.q_proj.o.0": 1, MLP: 0.5, WIDTH: 0.5},
        {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 56, "hidden_size": 32},
    ),
    "llama 8 and 2 heads": (
        "llama", {"num_attention_heads": 8, "head_dim": 8}, {HEADS: 2, WIDTH: 0.75},
        {"num_attention_heads": 4, "hidden_size": 48},
    ),
    "llama 4 and 1 head": (
        "llama", {"num_key_value_heads": 1}, {"*.q_proj.o.0": 2, MLP: 0.25},
        {"num_attention_heads": 2, "intermediate_size": 28},
    ),
    "phi3": (
        "phi3", {}, {"*.qkv_proj.o.0": 1, "*.gate_up_proj.o": 0.5, WIDTH: 0.5},
        {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 56},
    ),
    "gpt2": (
        "gpt2", {}, {"transformer.wte.d": 0.5, "*.c_attn.weight.1.0": 0.5, "*.c_fc.weight.1": 64},
        {"n_embd": 32, "n_head": 2, "n_inner": 64},
    ),
    "t5": ("t5", {}, {"*.q.o.0": 0.5, "*.wi.o": 0.5}, {"num_heads": 2, "d_ff": 56}),
    "mamba": (
        "mamba", {}, {"*": 0.5},
        {"hidden_size": 32, "intermediate_size": 56, "state_size": 4, "time_step_rank": 2},
    ),
    "mixtral": (
        "mixtral", {}, {"*.gate_up_proj.1.0": 0.5, HEADS: 1, "model.embed_tokens.d.0": 0.5},
        {"intermediate_size": 56, "num_attention_heads": 2, "hidden_size": 32},
    ),
    "mixtral, a loop over experts": (
        "mixtral", {"experts": "eager"}, {"*.gate_up_proj.1": 40, HEADS: 1},
        {"intermediate_size": 40, "num_attention_heads": 2},
    ),
}  # fmt: skip
UNTOLD = {
    "llama: heads with other frequencies": ("llama", {}, {"*": 0.5}, r"inv_freq"),
    "gpt2: heads that do not fill the width": ("gpt2", {}, {"*": 0.5}, r"c_attn\.weight \[32, 48\]"),
    "mixtral: layers that disagree": ("mixtral", {}, {"*.layers.0.*.gate_up_proj.1.0": 0.5}, r"layers\.0\.mlp"),
}


@pytest.fixture(autouse=True)
def quiet():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def made(kind: str, options: dict[str, Any]) -> tuple[Any, Any]:
    torch.manual_seed(0)
    built = build(kind, **options)
    with torch.no_grad():
        for parameter in built.model.parameters():  # else scores hardly differ
            parameter += 0.1 * torch.randn_like(parameter)
    return built.model.eval(), built.inputs


def generated(model: Any, ids: torch.Tensor, cache: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens, and the scores of all tokens at each step."""
    asked: dict[str, Any] = {
        "max_new_tokens": 6,
        "do_sample": False,
        "use_cache": cache,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    start = {"decoder_start_token_id": 0} if model.config.is_encoder_decoder else {}
    result = model.generate(input_ids=ids, output_logits=True, return_dict_in_generate=True, **asked, **start)
    return result.sequences, torch.stack(result.logits)


def same_tokens(wrapped: Any, widths: dict[str, Any], others: list[Any], ids: torch.Tensor) -> None:
    for cache in (False, True):
        with surgery.at_widths(wrapped, widths):
            expected, scores = generated(wrapped, ids, cache)
        for other in others:
            found, others_scores = generated(other, ids, cache)
            assert torch.equal(found, expected), f"with{'' if cache else 'out'} a cache"
            assert (others_scores - scores).abs().max() <= 1e-4 * scores.abs().max()


def through_a_file(model: Any) -> Any:
    stored = io.BytesIO()
    torch.save(model, stored)
    stored.seek(0)
    return torch.load(stored, weights_only=False)


@pytest.mark.parametrize("name", TOLD)
def test_small_models_generate_and_are_written_and_read(name: str) -> None:
    kind, options, widths, told = TOLD[name]
    model, inputs = made(kind, options)
    wrapped = surgery.wrap(model, inputs(0))
    small = surgery.shrink(wrapped, widths)
    assert {key: vars(small.config)[key] for key in told} == told and "config" not in small.surgery_record
    with tempfile.TemporaryDirectory() as folder:
        small.save_pretrained(folder)
        read = type(small).from_pretrained(folder).eval()
    surgery.verify(small, read, inputs(1))
    others = [small, read, copy.deepcopy(small), through_a_file(small)]
    same_tokens(wrapped, widths, others, inputs(0).kwargs["input_ids"][:, :5])


@pytest.mark.parametrize("name", UNTOLD)
def test_what_no_config_tells_generates_and_is_not_written(name: str, tmp_path: Any) -> None:
    kind, options, widths, message = UNTOLD[name]
    model, inputs = made(kind, options)
    wrapped = surgery.wrap(model, inputs(0))
    small = surgery.shrink(wrapped, widths)
    others = [small, copy.deepcopy(small), through_a_file(small)]
    for other in others:
        with pytest.raises(surgery.InputError, match=message):
            other.save_pretrained(tmp_path)
    surgery.save(small, tmp_path / "small")
    loaded = surgery.load(tmp_path / "small", made(kind, options)[0], inputs(0))
    same_tokens(wrapped, widths, [*others, loaded], inputs(0).kwargs["input_ids"][:, :5])
