"""Real architectures, tiny and untrained: which of their blocks may be left out, and what keeps the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from surgery.axes.formulas import Field
from surgery.modules.inputs import Inputs
from surgery.plan.groups import DEPTH
from tests.planning.listed.search import searched

pytestmark = pytest.mark.slow
IDS = torch.arange(1, 7)[None]
IMAGE = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SMALL = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
TEXT: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model of `library`, and what is to be found: for each group, the units that must stay.

    Attributes:
        within: whether there are other groups as well.
        indices: the names of attributes that hold the place of a unit.
    """

    library: str
    build: Callable[[Any], tuple[torch.nn.Module, Any]]
    groups: dict[str, set[int]]
    notes: tuple[str, ...] = ()
    within: bool = False
    indices: frozenset[str] = frozenset()
    counts: tuple[tuple[str, str], ...] = ()
    picks: frozenset[str] = field(default_factory=frozenset)


def language(name: str, **options: Any) -> Callable[[Any], tuple[torch.nn.Module, Any]]:
    """A model of transformers over tokens, from the names of its config and of its class."""

    def build(library: Any) -> tuple[torch.nn.Module, Any]:
        config, _, model = name.partition("/")
        made = getattr(library, config)(**{**TEXT, **options})
        return getattr(library, model)(made), Inputs((), {"input_ids": IDS})

    return build


def vision(name: str, image: torch.Tensor, **options: Any) -> Callable[[Any], tuple[torch.nn.Module, Any]]:
    """A model of transformers over images."""

    def build(library: Any) -> tuple[torch.nn.Module, Any]:
        config, _, model = name.partition("/")
        return getattr(library, model)(getattr(library, config)(**options)), image

    return build


def t5(library: Any) -> tuple[torch.nn.Module, Any]:
    config = library.T5Config(
        vocab_size=32, d_model=16, d_ff=24, d_kv=4, num_layers=3, num_heads=3, decoder_start_token_id=0
    )
    return library.T5ForConditionalGeneration(config), Inputs((), {"input_ids": IDS, "decoder_input_ids": IDS})


def whisper(library: Any) -> tuple[torch.nn.Module, Any]:
    config = library.WhisperConfig(
        vocab_size=64, d_model=16, encoder_layers=3, decoder_layers=3, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=8, max_source_positions=16,
        max_target_positions=16, pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip
    sound = torch.randn(1, 8, 32, generator=torch.Generator().manual_seed(0))
    return library.WhisperModel(config), Inputs((), {"input_features": sound, "decoder_input_ids": IDS})


def images(name: str, **options: Any) -> Callable[[Any], tuple[torch.nn.Module, Any]]:
    """A model of torchvision or timm."""

    def build(library: Any) -> tuple[torch.nn.Module, Any]:
        make = getattr(library, "create_model", None)
        return make(name, **options) if make else getattr(library.models, name)(**options), IMAGE

    return build


VIT = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
DPT = {
    "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 8, 8, 8], "fusion_hidden_size": 8,
    "reassemble_factors": [4, 2, 1, 0.5], "is_hybrid": False,
}  # fmt: skip
SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [2, 4], "num_heads": [2, 2], "window_size": 4}
LAYERS = (("model", "num_hidden_layers"),)
TYPES = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 4}
PLACE = frozenset({"layer_idx"})

CASES = {
    "llama": Case(
        "transformers", language("LlamaConfig/LlamaForCausalLM", num_key_value_heads=2), {"model.layers.depth": set()},
        indices=PLACE, counts=LAYERS,
    ),
    "gemma": Case(
        "transformers", language("Gemma3TextConfig/Gemma3ForCausalLM", num_key_value_heads=2, head_dim=4, **TYPES),
        {"model.layers.depth": set()}, indices=PLACE, counts=LAYERS, picks=frozenset({"layer_types"}),
    ),
    "bert": Case(
        "transformers", language("BertConfig/BertModel", output_hidden_states=True), {"encoder.layer.depth": set()},
        indices=PLACE,
    ),
    "gpt2": Case(
        "transformers", language("GPT2Config/GPT2LMHeadModel", n_positions=16), {"transformer.h.depth": set()},
        indices=PLACE,
    ),
    "mamba": Case(
        "transformers", language("MambaConfig/MambaForCausalLM", state_size=4), {"backbone.layers.depth": set()},
        indices=PLACE,
    ),
    "t5": Case("transformers", t5, {"encoder.block.depth": {0}, "decoder.block.depth": {0}}, indices=PLACE),
    "whisper": Case(
        "transformers", whisper, {"encoder.layers.depth": set(), "decoder.layers.depth": set()}, indices=PLACE
    ),
    "vit": Case("transformers", vision("ViTConfig/ViTModel", SMALL, **VIT), {"layers.depth": set()}),
    "dpt": Case(
        "transformers", vision("DPTConfig/DPTForDepthEstimation", SMALL, **VIT, **DPT), {}, ("modeling_dpt.py",)
    ),
    "swin": Case(
        "transformers", vision("SwinConfig/SwinModel", SMALL, **SWIN),
        {"encoder.layers.0.blocks.depth": set(), "encoder.layers.1.blocks.depth": set()},
    ),
    "resnet18": Case(
        "torchvision", images("resnet18"),
        {"layer1.depth": set(), "layer2.depth": {0}, "layer3.depth": {0}, "layer4.depth": {0}},
    ),
    "resnet50": Case(
        "torchvision", images("resnet50"),
        {"layer1.depth": {0}, "layer2.depth": {0}, "layer3.depth": {0}, "layer4.depth": {0}},
    ),
    "efficientnet": Case(
        "torchvision", images("efficientnet_b0"), {f"features.{i}.depth": {0} for i in range(2, 7)}, within=True
    ),
    "regnet": Case(
        "torchvision", images("regnet_y_400mf"), {f"trunk_output.block{i}.depth": {0} for i in (2, 3, 4)}, within=True
    ),
    "convnext": Case(
        "torchvision", images("convnext_tiny"),
        {f"features.{i}.depth": set() for i in (1, 3, 5, 7)},
    ),
    "mixer": Case("timm", images("mixer_s32_224", img_size=64, num_classes=5), {"blocks.depth": set()}),
    "timm vit": Case("timm", images("vit_tiny_patch16_224", img_size=64, num_classes=5), {"blocks.depth": set()}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")  # transformers, of kernels that are not installed
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of libraries, in their own code
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_blocks_of_real_models(case):
    library = pytest.importorskip(case.library, reason=f"{case.library} is not installed")
    torch.manual_seed(0)
    model, x = case.build(library)
    found, notes = searched(model, x)
    required = {name: set(one.required) for name, one in found.items()}
    assert all(required[name] == units for name, units in case.groups.items())
    assert case.within or required.keys() == case.groups.keys()
    assert all(one.kind == DEPTH for one in found.values())
    assert len(notes) == len(case.notes) and all(said in note for said, note in zip(case.notes, notes, strict=True))
    assert {path[-1] for one in found.values() for (_, path), _, _ in one.indices} == case.indices
    counts = {(module, path[-1]) for one in found.values() for (module, path), _ in one.counts}
    assert counts == {(module, Field(name)) for module, name in case.counts}
    assert {path[-1] for one in found.values() for _, path in one.picks} == {Field(name) for name in case.picks}


@pytest.mark.parametrize("batch_first", [True, False])
def test_layers_of_torch(batch_first):
    layer = torch.nn.TransformerEncoderLayer(16, 2, 24, batch_first=batch_first)
    found, notes = searched(torch.nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), torch.randn(2, 5, 16))
    assert not notes and not found["layers.depth"].required
    model = torch.nn.Transformer(16, 2, 3, 3, 24, batch_first=batch_first)
    found, notes = searched(model, (torch.randn(2, 5, 16), torch.randn(2, 5, 16)))
    assert not notes and {name: len(one.required) for name, one in found.items()} == {
        "encoder.layers.depth": 0,
        "decoder.layers.depth": 0,
    }
