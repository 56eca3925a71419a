"""transformers: a tiny configuration of any model type, by the names that configurations give to their sizes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from surgery.modules.inputs import Inputs

from .entry import Built, Entry, image, integers, listed, normal

# A small value for each size, under every name that configurations know it by. Sizes differ, so that confusions show.
NAMES: dict[int, str] = {
    64: "hidden_size d_model n_embd dim word_embed_proj_dim output_hidden_size image_size",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers "
    "num_key_value_heads num_kv_heads num_experts_per_tok mask_time_length mask_feature_length",
    4: "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads num_frames "
    "num_local_experts num_experts num_conv_pos_embedding_groups window_size time_step_rank",
    16: "head_dim d_kv num_mel_bins num_conv_pos_embeddings",
    112: "intermediate_size d_ff ffn_dim encoder_ffn_dim decoder_ffn_dim hidden_dim ffn_hidden_size "
    "moe_intermediate_size",
    48: "embedding_size projection_dim decoder_hidden_size pooler_hidden_size",
    120: "vocab_size",
    40: "max_position_embeddings n_positions max_source_positions max_target_positions",
    24: "embed_dim",
    8: "sliding_window state_size relative_attention_num_buckets",
}  # fmt: skip
SMALL = {name: size for size, names in NAMES.items() for name in names.split()}
WIDEST = {"hidden_sizes": 128, "conv_dim": 32}  # lists of widths are scaled to this last one
PYRAMID = {"num_hidden_layers", "num_layers", "hidden_size"}  # what follows from the lists of a pyramid's configuration
TOKENS, SIDE = 10, 64

# What a checkpoint that people use says beyond sizes, and what does not fit a model so small.
SPECIAL: dict[str, dict[str, Any]] = {
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True,
                   "norm_rel_ebd": "layer_norm", "position_buckets": 8, "position_biased_input": False},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "mpnet": {"relative_attention_num_buckets": 32},  # its code counts on it
    "swin": {"image_size": 128},  # four stages, each of at least one window
}  # fmt: skip
# Head layouts beside the default of 4 query and 2 key-value heads; without a cache, which as an output fixes them.
LAYOUTS: dict[str, dict[str, dict[str, Any]]] = {
    "llama": {"gqa_8_2": {"num_attention_heads": 8, "head_dim": 8}, "mqa": {"num_key_value_heads": 1},
              "mha": {"num_key_value_heads": 4}},
    "falcon": {"grouped": {"new_decoder_architecture": True, "num_kv_heads": 2},
               "mha_alibi": {"multi_query": False, "alibi": True, "num_kv_heads": 4}},
}  # fmt: skip

# The first of these that knows the model type is what a user would take.
TASKS = (
    "SEQ_TO_SEQ_CAUSAL_LM", "SPEECH_SEQ_2_SEQ", "CTC", "MASKED_LM", "CAUSAL_LM", "IMAGE_CLASSIFICATION",
    "VIDEO_CLASSIFICATION", "SEMANTIC_SEGMENTATION",
)  # fmt: skip
OTHER_TASKS = {"segformer": "SEMANTIC_SEGMENTATION", "clip": "", "siglip_vision_model": ""}


def entries() -> Iterator[Entry]:
    """Every type with sdpa and with eager attention where it has both, with and without a cache where it has one."""
    from transformers import CONFIG_MAPPING

    for kind in listed("transformers.txt"):
        yield Entry("transformers", kind, partial(build, kind))
        cls = model_class(kind)
        if cls._supports_sdpa:
            yield Entry("transformers", f"{kind}:eager", partial(build, kind, attention="eager"))
        if getattr(CONFIG_MAPPING[kind](), "use_cache", False) and _generates(cls):
            yield Entry("transformers", f"{kind}:no_cache", partial(build, kind, use_cache=False))
        if hasattr(CONFIG_MAPPING[kind](), "num_experts_per_tok"):
            yield Entry("transformers", f"{kind}:eager_experts", partial(build, kind, experts="eager"))
        for name, options in LAYOUTS.get(kind, {}).items():
            yield Entry("transformers", f"{kind}:{name}", partial(build, kind, use_cache=False, **options))


def _generates(cls: Any) -> bool:
    from transformers import GenerationMixin

    return issubclass(cls, GenerationMixin)


def model_class(kind: str) -> Any:
    """The class of the task that a user would take a model of this type for."""
    import transformers
    from transformers.models.auto import modeling_auto

    tasks = [OTHER_TASKS[kind]] if kind in OTHER_TASKS else TASKS
    tables = [getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES") for task in tasks if task]
    tables.append(modeling_auto.MODEL_MAPPING_NAMES)
    names = next(table[kind] for table in tables if kind in table)
    return getattr(transformers, names if isinstance(names, str) else names[0])


def build(kind: str, attention: str | None = None, experts: str | None = None, **options: Any) -> Built:
    cls = model_class(kind)
    config = tiny(kind, **options)
    how = {"attn_implementation": attention or ("sdpa" if cls._supports_sdpa else "eager")}
    if experts:
        how["experts_implementation"] = experts
    model = cls._from_config(config, **how)
    return Built(model, partial(_inputs, config, tuple(_asked(model))))


def tiny(kind: str, **options: Any) -> Any:
    """A small configuration of a model type; `options` are set as they are."""
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[kind]
    return config(**{**_small(config()), **SPECIAL.get(kind, {}), **options})


def _small(config: Any) -> dict[str, Any]:
    """Small values for what a configuration holds, under its own names; nested configurations become dicts."""
    pyramid = isinstance(getattr(config, "depths", None), list)
    result: dict[str, Any] = {}
    for name, value in vars(config).items():
        if name in WIDEST and isinstance(value, list | tuple):
            result[name] = [size * WIDEST[name] // value[-1] for size in value]
        elif name == "depths" and pyramid:
            result[name] = [min(2, depth) for depth in value]
        elif name == "layer_types" and value:
            result[name] = (sorted(set(value), reverse=True) * 2)[:2]
        elif name.endswith("_token_id") and isinstance(value, int) and value >= SMALL["vocab_size"]:
            result[name] = 2
        elif hasattr(value, "to_dict"):
            result[name] = _small(value)
        elif name in SMALL and not isinstance(value, list | tuple) and not (pyramid and name in PYRAMID):
            result[name] = SMALL[name]
    return result


def _asked(model: nn.Module) -> Iterator[str]:
    """The arguments of a model's forward that the table of inputs knows."""
    takes = inspect.signature(model.forward).parameters
    yield from (name for name in INPUTS if name in takes and (name != "attention_mask" or "input_ids" in takes))


def _inputs(config: Any, asked: tuple[str, ...], seed: int) -> Inputs:
    return Inputs((), {name: INPUTS[name](config, seed) for name in asked})


def _tokens(config: Any, seed: int) -> Tensor:
    return integers(seed, getattr(config, "text_config", config).vocab_size - 3, 2, TOKENS) + 3  # no special tokens


def _mask(config: Any, seed: int) -> Tensor:
    """The second text is three tokens shorter."""
    mask = torch.ones(2, TOKENS, dtype=torch.long)
    mask[1, -3:] = 0
    return mask


def _pixels(config: Any, seed: int) -> Tensor:
    config = getattr(config, "vision_config", config)
    frames = (config.num_frames,) if hasattr(config, "num_frames") else ()
    side = getattr(config, "image_size", SIDE)
    sides = side if isinstance(side, list | tuple) else (side, side)
    return image(seed, 2, *frames, 3, *sides)


INPUTS: dict[str, Callable[[Any, int], Tensor]] = {
    "input_ids": _tokens,
    "attention_mask": _mask,
    "pixel_values": _pixels,
    "input_values": lambda config, seed: normal(seed, 2, 4000),
    "input_features": lambda config, seed: normal(seed, 2, config.num_mel_bins, 2 * config.max_source_positions),
    "decoder_input_ids": lambda config, seed: _tokens(config, seed + 100)[:, :7],
}
