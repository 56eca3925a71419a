"""Models of torchvision, timm, transformers and diffusers as source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import surgery

pytestmark = pytest.mark.slow
Made = tuple[torch.nn.Module, Any]
IDS = torch.arange(16).view(2, 8)
SIZES: dict[str, Any] = dict(vocab_size=64, num_hidden_layers=2, num_attention_heads=4, hidden_size=32)
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def library(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed")


def timm(name: str, **options: Any) -> Callable[[], Made]:
    return lambda: (library("timm").create_model(name, num_classes=10, **options), IMAGES)


def transformers(name: str, **options: Any) -> Callable[[], Made]:
    def make() -> Made:
        T = library("transformers")
        config = T.AutoConfig.for_model(options.pop("kind"), bos_token_id=1, eos_token_id=2, **options)
        return getattr(T, name)(config), {"input_ids": IDS}

    return make


def small_vit(**options: Any) -> torch.nn.Module:
    made: torch.nn.Module = timm("vit_tiny_patch16_224", img_size=64, depth=2, **options)()[0].eval()
    return made


def test_arguments_of_timm_build_a_small_model_where_they_can_say_its_widths() -> None:
    torch.manual_seed(0)
    small = surgery.shrink(small_vit(), {"residual": 128, "heads": 2, "ffn": 512}, IMAGES)
    built = small_vit(embed_dim=128, num_heads=2)
    built.load_state_dict(small.state_dict())
    assert surgery.verify(small, built, IMAGES) < 1e-6


def test_what_timm_writes_of_another_small_model_is_refused_when_it_is_read(tmp_path: Path) -> None:
    small = surgery.shrink(small_vit(), 0.5, IMAGES)
    library("timm").models.save_for_hf(small, tmp_path)
    with pytest.raises(RuntimeError, match="size mismatch"):
        library("timm").create_model(f"local-dir:{tmp_path}", pretrained=True)


def test_another_small_model_of_diffusers_refuses_to_be_saved(tmp_path: Path) -> None:
    model, inputs = dit()
    small: Any = surgery.shrink(model.eval(), 0.5, inputs)
    with pytest.raises(surgery.InputError, match="no config of DiTTransformer2DModel gives this small model"):
        small.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def autoencoder() -> Made:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    model = library("diffusers").AutoencoderKL(block_out_channels=(32, 64), norm_num_groups=8, **blocks)
    return model, torch.randn(2, 3, 16, 16)


# diffusers calls its own names deprecated
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_small_model_of_diffusers_that_its_arguments_can_say_is_saved_as_such(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = autoencoder()
    small: Any = surgery.shrink(surgery.wrap(model.eval(), inputs, tie="config"), 0.5)
    small.save_pretrained(tmp_path)
    assert small.config["block_out_channels"] == (8, 32) != model.config["block_out_channels"]
    assert surgery.verify(small, type(small).from_pretrained(tmp_path), inputs) < 1e-6


def resnet() -> Made:
    return library("torchvision").models.resnet18(num_classes=10), IMAGES


def vit() -> Made:
    options = dict(num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=10)
    return library("torchvision").models.VisionTransformer(image_size=64, patch_size=16, **options), IMAGES


def dit() -> Made:
    """Its attention calls an object, whose code holds sizes."""
    model = library("diffusers").DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, num_layers=2, sample_size=8, norm_num_groups=1,
        num_embeds_ada_norm=10,
    )  # fmt: skip
    time, kind = torch.tensor([1, 2]), torch.tensor([0, 1])
    return model, surgery.inputs(torch.randn(2, 4, 8, 8), timestep=time, class_labels=kind)


MODELS: dict[str, Callable[[], Made]] = {
    "torchvision resnet18": resnet,
    "torchvision vit": vit,
    "timm vit": timm("vit_tiny_patch16_224", img_size=64, depth=2),
    "timm convnext": timm("convnext_atto", depths=(1, 1, 1, 1)),
    "timm swin": timm(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=4, depths=(2, 1), num_heads=(2, 4), embed_dim=16
    ),
    "bert": transformers("BertForMaskedLM", kind="bert", intermediate_size=64, max_position_embeddings=32, **SIZES),
    "llama": transformers("LlamaForCausalLM", kind="llama", intermediate_size=64, num_key_value_heads=2, **SIZES),
    "gpt2": transformers("GPT2LMHeadModel", kind="gpt2", vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=32),
    "diffusers dit": dit,
}


@pytest.mark.parametrize("name", MODELS)
# torch calls enums that torchao registers as constants deprecated, where transformers or diffusers imports it
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_models_of_libraries(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    small = surgery.shrink(model.eval(), 0.5, inputs)
    text = surgery.export_source(small, tmp_path, inputs).read_text()
    rewritten = small.surgery_record["rewritten"]
    assert bool(rewritten) == ("_sized(" in text)
