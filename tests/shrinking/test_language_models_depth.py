"""Tiny models of transformers with fewer layers: they generate as the twin does, are written, and are read again."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import surgery
from surgery.configs.fitting import Fit

transformers = pytest.importorskip("transformers", reason="the models are those of transformers: pip install it")
pytestmark = pytest.mark.slow

IDS = torch.randint(3, 60, (2, 7), generator=torch.Generator().manual_seed(0))
SMALL = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
DECODER = {**SMALL, "num_hidden_layers": 4, "num_key_value_heads": 2}
WHISPER = {
    "vocab_size": 64, "num_mel_bins": 8, "d_model": 32, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_source_positions": 10, "max_target_positions": 20,
    "encoder_layers": 3, "decoder_layers": 3, "begin_suppress_tokens": [5, 6, 7],
}  # fmt: skip
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
T5 = {"vocab_size": 64, "d_model": 32, "d_ff": 48, "d_kv": 8, "num_heads": 4, "num_layers": 4, "num_decoder_layers": 4}
IMAGE = {"image_size": 16, "patch_size": 4, "num_hidden_layers": 4}
SWIN = {
    "image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 4, 2], "num_heads": [2, 4, 4], "window_size": 4,
    "drop_path_rate": 0.0,
}  # fmt: skip
LAYERS, T5_STACKS = "model.layers.depth", ("encoder.block.depth", "decoder.block.depth")
SLIDING = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}


def tokens() -> Any:
    return IDS


def both() -> Any:
    return surgery.inputs(input_ids=IDS, decoder_input_ids=IDS)


def sound() -> Any:
    return surgery.inputs(input_features=_normal(2, 8, 20), decoder_input_ids=IDS)


def image(size: int = 16) -> Any:
    return surgery.inputs(pixel_values=_normal(2, 3, size, size))


def _normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


# The class, its configuration, inputs; orders of importance, widths, and what the configuration says then.
CASES: dict[str, tuple[str, dict[str, Any], Any, dict[str, list[int]], dict[str, Any], dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", DECODER, tokens, {}, {LAYERS: 3}, {"num_hidden_layers": 3}),
    "llama, layers 1 and 3": (
        "LlamaForCausalLM", DECODER, tokens, {LAYERS: [3, 1, 0, 2]}, {LAYERS: 2, "*.mlp.gate_proj.o": 24},
        {"num_hidden_layers": 2, "intermediate_size": 24},
    ),
    "llama, layer 2": (
        "LlamaForCausalLM", DECODER, tokens, {LAYERS: [2, 1, 0, 3]}, {LAYERS: 1}, {"num_hidden_layers": 1},
    ),
    "mixtral": (
        "MixtralForCausalLM", {**DECODER, "num_local_experts": 4}, tokens, {LAYERS: [1, 2, 0, 3]}, {LAYERS: 2},
        {"num_hidden_layers": 2, "num_local_experts": 4},
    ),
    "qwen2, the sliding ones": (
        "Qwen2ForCausalLM", {**DECODER, **SLIDING}, tokens, {LAYERS: [3, 2, 1, 0]}, {LAYERS: 3},
        {"num_hidden_layers": 3, "layer_types": ["full_attention", "sliding_attention", "sliding_attention"]},
    ),
    "gemma2, from the second": (
        "Gemma2ForCausalLM", {**DECODER, "head_dim": 8, "sliding_window": 4}, tokens,
        {LAYERS: [3, 2, 1, 0]}, {LAYERS: 3},
        {"num_hidden_layers": 3, "layer_types": ["full_attention", "sliding_attention", "full_attention"]},
    ),
    "gpt2": (
        "GPT2LMHeadModel", {"vocab_size": 64, "n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 32}, tokens,
        {"transformer.h.depth": [0, 3, 1, 2]}, {"transformer.h.depth": 2}, {"n_layer": 2},
    ),
    "t5": ("T5ForConditionalGeneration", {**T5, **TOKENS}, both, {}, dict.fromkeys(T5_STACKS, 3),
           {"num_layers": 3, "num_decoder_layers": 3}),
    "t5, the decoder": (
        "T5ForConditionalGeneration", {**T5, **TOKENS}, both, {T5_STACKS[1]: [0, 3, 1, 2]}, {T5_STACKS[1]: 2},
        {"num_layers": 4, "num_decoder_layers": 2},
    ),
    "whisper": (
        "WhisperForConditionalGeneration", {**WHISPER, **TOKENS}, sound, {"model.decoder.layers.depth": [2, 0, 1]},
        {"model.encoder.layers.depth": 1, "model.decoder.layers.depth": 2},
        {"encoder_layers": 1, "decoder_layers": 2, "begin_suppress_tokens": [5, 6, 7]},
    ),
    "bert": (
        "BertForSequenceClassification", {**SMALL, "num_hidden_layers": 4}, tokens,
        {"bert.encoder.layer.depth": [3, 0, 1, 2]}, {"bert.encoder.layer.depth": 2}, {"num_hidden_layers": 2},
    ),
    "vit": (
        "ViTForImageClassification", {**SMALL, **IMAGE}, image, {"vit.layers.depth": [1, 2, 3, 0]},
        {"vit.layers.depth": 3}, {"num_hidden_layers": 3},
    ),
    "swin, pairs": (
        "SwinForImageClassification", SWIN, lambda: image(32), {"swin.encoder.layers.1.blocks.depth": [2, 3, 0, 1]},
        {"swin.encoder.layers.0.blocks.depth": 1, "swin.encoder.layers.1.blocks.depth": 2}, {"depths": [1, 2, 2]},
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def made(name: str, values: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    cls = getattr(transformers, name)
    model = cls(cls.config_class(**values)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # else scores hardly differ
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def generated(model: Any, x: Any, cache: bool) -> torch.Tensor:
    start = {"decoder_start_token_id": 1} if model.config.is_encoder_decoder else {}
    first = {"input_features": x.kwargs["input_features"]} if "whisper" in model.config.model_type else {"inputs": IDS}
    asked: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    result: torch.Tensor = model.generate(**first, use_cache=cache, **asked, **start)
    return result


@pytest.mark.parametrize("name", CASES)
def test_fewer_layers_generate_and_are_written_and_read(name: str, tmp_path: Any) -> None:
    cls, values, inputs, orders, widths, told = CASES[name]
    model, x = made(cls, values), inputs()
    globs = [f"{pattern.rpartition('.')[0]}*" for pattern in {*orders, *widths} if pattern.endswith("depth")]
    wrapped = surgery.wrap(model, x, depth=globs)
    surgery.set_depth_order(wrapped, orders)
    small: Any = surgery.shrink(wrapped, widths)
    assert "config" not in small.surgery_record, small.surgery_record["config"]
    assert {key: vars(small.config)[key] for key in told} == told
    small.save_pretrained(tmp_path)
    read = type(small).from_pretrained(tmp_path).eval()
    assert surgery.verify(small, read, x) < 1e-6
    for cache in (False, True) if small.can_generate() else ():
        with surgery.at_widths(wrapped, widths):
            expected = generated(wrapped, x, cache)
        for other in (small, read):
            assert torch.equal(generated(other, x, cache), expected), f"with{'' if cache else 'out'} a cache"


def test_shifts_that_are_out_of_turn_are_not_written(tmp_path: Any) -> None:
    """Every second block of a Swin stage shifts its windows."""
    name = "swin.encoder.layers.1.blocks.depth"
    wrapped = surgery.wrap(made("SwinForImageClassification", SWIN), image(32), depth=[name])
    surgery.set_depth_order(wrapped, {name: [1, 2, 3, 0]})
    small: Any = surgery.shrink(wrapped, {name: 3})
    with pytest.raises(surgery.InputError, match=r"swin\.encoder\.layers\.1\.blocks\.depth \(3 of 4: 1, 2, 3\)"):
        small.save_pretrained(tmp_path)


@pytest.mark.parametrize("name, values, told", [
    ("LlamaForCausalLM", {**DECODER, "num_key_value_heads": 4}, {}),
    ("Gemma2ForCausalLM", {**DECODER, "num_key_value_heads": 4, "head_dim": 8, "sliding_window": 4},
     {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}),
])  # fmt: skip
def test_tied_plans_are_written_at_every_depth(
    name: str, values: dict[str, Any], told: dict[str, Any], tmp_path: Any
) -> None:
    wrapped = surgery.wrap(made(name, values), IDS, depth=True, tie="config")
    assert surgery.inspect(wrapped).groups[LAYERS].granularity == 1
    for depth in (3, 2, 1):
        small: Any = surgery.shrink(wrapped, {"*": 0.5, LAYERS: depth})
        assert (small.config.num_hidden_layers, small.config.intermediate_size) == (depth, 24)
        assert all(vars(small.config)[key] == value[:depth] for key, value in told.items())
        small.save_pretrained(tmp_path)
        assert surgery.verify(small, type(small).from_pretrained(tmp_path).eval(), IDS) < 1e-6


def test_experts_are_sizes_like_others() -> None:
    """Experts that are stacked in tensors: their number follows from shapes, beside that of layers."""
    values = {**DECODER, "num_local_experts": 4, "num_experts_per_tok": 2}
    small = made("MixtralForCausalLM", {**values, "num_local_experts": 3, "num_hidden_layers": 4})
    found: Any = Fit(small, (), transformers.MixtralConfig(**values)).run()
    assert (found.num_local_experts, found.num_hidden_layers, found.num_experts_per_tok) == (3, 4, 2)
