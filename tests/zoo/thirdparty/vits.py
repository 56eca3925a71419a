"""Transformers and mixers of images: vit_pytorch, mlp_mixer_pytorch, g_mlp_pytorch, perceiver_pytorch, open_clip."""

from __future__ import annotations

from typing import Any

from ..recipe import Recipe, floats, given, images, ints, new, of, same, unit

PLAIN: dict[str, Any] = {"image_size": 32, "patch_size": 8, "num_classes": 5, "dim": 24, "depth": 2, "heads": 3,
                         "mlp_dim": 40}  # fmt: skip
HEAD = {**PLAIN, "dim_head": 10}
TWINS: dict[str, Any] = {f"s{i}_{name}": value for i, dim in enumerate((8, 16, 24, 32), 1) for name, value in
                         (("emb_dim", dim), ("local_patch_size", 2), ("global_k", 2), ("depth", 1))}  # fmt: skip
CVT: dict[str, Any] = {f"s{i}_{name}": value for i, dim in enumerate((8, 16, 24), 1) for name, value in
                       (("emb_dim", dim), ("heads", i), ("depth", 1))}  # fmt: skip
CROSS = {f"{kind}_enc_{name}": value for kind in ("sm", "lg") for name, value in
         (("depth", 1), ("heads", 2), ("mlp_dim", 24), ("dim_head", 6))}  # fmt: skip

vit_pytorch = same(images(32), "vit_pytorch", {
    "vit": ("vit:ViT", HEAD),
    "simple_vit": ("simple_vit:SimpleViT", HEAD),
    "simple_vit_with_qk_norm": ("simple_vit_with_qk_norm:SimpleViT", HEAD),
    "simple_vit_with_register_tokens": ("simple_vit_with_register_tokens:SimpleViT", HEAD),
    "deepvit": ("deepvit:DeepViT", HEAD),
    "cait": ("cait:CaiT", {**HEAD, "cls_depth": 1}),
    "xcit": ("xcit:XCiT", {**HEAD, "cls_depth": 1}),
    "parallel_vit": ("parallel_vit:ViT", HEAD),
    "small_dataset_vit": ("vit_for_small_dataset:ViT", HEAD),
    "normalized_vit": ("normalized_vit:nViT", HEAD),
    "cct": ("cct:CCT", {"img_size": 32, "embedding_dim": 24, "n_conv_layers": 2, "num_layers": 2, "num_heads": 3,
                        "mlp_ratio": 2, "num_classes": 5}),
    "t2t": ("t2t:T2TViT", {"image_size": 32, "num_classes": 5, "dim": 24, "depth": 1, "heads": 3, "mlp_dim": 40,
                           "dim_head": 10, "t2t_layers": ((7, 4), (3, 2))}),
    "pit": ("pit:PiT", {**HEAD, "depth": (1, 1)}),
    "levit": ("levit:LeViT", {"image_size": 64, "num_classes": 5, "dim": (16, 24), "depth": (1, 1), "heads": (2, 3),
                              "mlp_mult": 2, "stages": 2, "dim_key": 6, "dim_value": 10}),
    "cvt": ("cvt:CvT", {**CVT, "num_classes": 5}),
    "twins_svt": ("twins_svt:TwinsSVT", {**TWINS, "num_classes": 5}),
    "nest": ("nest:NesT", {"image_size": 32, "patch_size": 4, "num_classes": 5, "dim": 12, "heads": 2,
                           "num_hierarchies": 2, "block_repeats": (1, 1), "dim_head": 6}),
    "cross_vit": ("cross_vit:CrossViT", {"image_size": 32, "num_classes": 5, "sm_dim": 12, "lg_dim": 20,
                                         "sm_patch_size": 8, "lg_patch_size": 16, "cross_attn_depth": 1,
                                         "cross_attn_heads": 2, "cross_attn_dim_head": 6, "depth": 1, **CROSS}),
    "max_vit": ("max_vit:MaxViT", {"num_classes": 5, "dim": 16, "depth": (1, 1), "dim_head": 8, "dim_conv_stem": 12,
                                   "window_size": 4}),
    "scalable_vit": ("scalable_vit:ScalableViT", {"num_classes": 5, "dim": 16, "depth": (1, 1), "heads": (2, 4),
                                                  "reduction_factor": (4, 2), "window_size": (4, None)}),
    "sep_vit": ("sep_vit:SepViT", {"num_classes": 5, "dim": 16, "depth": (1, 1), "heads": (2, 4), "window_size": 7,
                                   "dim_head": 8}),
    "crossformer": ("crossformer:CrossFormer", {
        "dim": (32, 32, 64, 64), "depth": (1, 1, 1, 1), "global_window_size": (4, 4, 2, 1), "local_window_size": 2,
        "num_classes": 5}),
    "regionvit": ("regionvit:RegionViT", {"dim": (32, 32, 64, 64), "depth": (1, 1, 1, 1), "window_size": 2,
                                          "num_classes": 5}),
    "mobile_vit": ("mobile_vit:MobileViT", {"image_size": (64, 64), "dims": [12, 16, 20],
                                            "channels": [8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 40], "num_classes": 5,
                                            "depths": (1, 1, 1)}),
})  # fmt: skip
for name, side in {"levit": 64, "twins_svt": 64, "sep_vit": 112, "crossformer": 64, "mobile_vit": 64}.items():
    vit_pytorch[name] = (vit_pytorch[name][0], images(side))
vit_pytorch |= {
    "vit_3d": (new("vit_pytorch.vit_3d:ViT", frames=4, frame_patch_size=2, image_patch_size=8, **{
        k: v for k, v in HEAD.items() if k != "patch_size"}), given(unit(2, 3, 4, 32, 32))),
    "vit_1d": (new("vit_pytorch.vit_1d:ViT", seq_len=40, patch_size=8, num_classes=5, dim=24, depth=2, heads=3,
                   mlp_dim=40), given(floats(2, 3, 40))),
    "vivit": (new("vit_pytorch.vivit:FactorizedTransformer", 24, 2, 3, 10, 40), given(floats(2, 2, 6, 24))),
}  # fmt: skip

MIXER: dict[str, Any] = {"image_size": 32, "patch_size": 8, "dim": 24, "depth": 2, "num_classes": 5}
mixers = {
    **of("mlp_mixer_pytorch", {"mixer": (new("mlp_mixer_pytorch:MLPMixer", channels=3, **MIXER), images(32))}),
    **of("g_mlp_pytorch", {
        "vision": (new("g_mlp_pytorch:gMLPVision", **MIXER, attn_dim=10), images(32)),
        "causal": (new("g_mlp_pytorch:gMLP", num_tokens=30, dim=24, depth=2, seq_len=12, causal=True),
                   given(ints(30, 2, 12)))}),
    **of("perceiver_pytorch", {
        "perceiver": (new("perceiver_pytorch:Perceiver", num_freq_bands=3, depth=2, max_freq=10., num_latents=7,
                          latent_dim=24, latent_heads=2, cross_dim_head=10, latent_dim_head=8, num_classes=5),
                      given(unit(2, 12, 12, 3))),
        "perceiver_io": (new("perceiver_pytorch:PerceiverIO", depth=2, dim=20, queries_dim=14, logits_dim=6,
                             num_latents=7, latent_dim=24, latent_heads=2, cross_dim_head=10, latent_dim_head=8),
                         given(floats(2, 9, 20), queries=floats(5, 14)))}),
}  # fmt: skip

VISION = new("open_clip:CLIPVisionCfg", layers=2, width=48, head_width=12, patch_size=8, image_size=32)
CONVS = new("open_clip:CLIPVisionCfg", layers=(1, 1, 1, 1), width=16, head_width=8, image_size=64)
TEXT = new("open_clip:CLIPTextCfg", context_length=9, vocab_size=60, width=40, heads=4, layers=2)
PAIR = given(unit(2, 3, 32, 32), ints(60, 2, 9))
open_clip = {
    "vit": (new("open_clip:CLIP", 20, VISION, TEXT), PAIR),
    "vit_quick_gelu": (new("open_clip:CLIP", 20, VISION, TEXT, quick_gelu=True, output_dict=True), PAIR),
    "resnet": (new("open_clip:CLIP", 20, CONVS, TEXT), given(unit(2, 3, 64, 64), ints(60, 2, 9))),
    "coca": (new("open_clip:CoCa", 40, new("open_clip.coca_model:MultimodalCfg", context_length=9, vocab_size=60,
                                           width=40, heads=4, layers=2),
                 new("open_clip:CLIPTextCfg", context_length=9, vocab_size=60, width=40, heads=4, layers=2,
                     embed_cls=True, output_tokens=True),
                 new("open_clip:CLIPVisionCfg", layers=2, width=48, head_width=12, patch_size=8, image_size=32,
                     attentional_pool=True, attn_pooler_queries=6, attn_pooler_heads=4, output_tokens=True)),
             given(unit(2, 3, 32, 32), ints(60, 2, 9, low=1))),
}  # fmt: skip

RECIPES: dict[str, Recipe] = {**of("vit_pytorch", vit_pytorch), **mixers, **of("open_clip", open_clip)}
