"""Segmentation: medical volumes and slices (monai), encoders with decoders (segmentation_models_pytorch)."""

from __future__ import annotations

from typing import Any

from ..recipe import Recipe, floats, given, images, ints, new, of, same

UNET: dict[str, Any] = {"channels": (8, 16, 32), "strides": (2, 2)}
ONE = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3}
SLICES = images(32, channels=1)

MONAI = "monai.networks.nets"
monai = same(SLICES, MONAI, {
    "unet": ("UNet", {**ONE, **UNET, "num_res_units": 2}),
    "attention_unet": ("AttentionUnet", {**ONE, **UNET}),
    "basic_unet": ("BasicUNet", {**ONE, "features": (8, 8, 16, 24, 32, 8)}),
    "basic_unet_plus_plus": ("BasicUNetPlusPlus", {**ONE, "features": (8, 8, 16, 24, 32, 8)}),
    "dynunet": ("DynUNet", {**ONE, "kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2],
                            "filters": [8, 16, 32], "res_block": True}),
    "segresnet": ("SegResNet", {**ONE, "init_filters": 8, "blocks_down": (1, 2, 2), "blocks_up": (1, 1)}),
    "highresnet": ("HighResNet", ONE),
    "densenet": ("DenseNet121", {**ONE, "init_features": 16, "growth_rate": 8, "block_config": (2, 3, 2)}),
    "resnet18": ("resnet18", {"spatial_dims": 2, "n_input_channels": 1, "num_classes": 3}),
    "autoencoder": ("AutoEncoder", {**ONE, "channels": (8, 16, 24), "strides": (1, 2, 2), "num_res_units": 1}),
    "autoencoder_kl": ("AutoencoderKL", {"spatial_dims": 2, "channels": (8, 16), "num_res_blocks": (1, 1),
                                         "attention_levels": (False, True), "norm_num_groups": 4}),
    "mednext": ("MedNeXt", {**ONE, "init_filters": 8, "kernel_size": 3, "blocks_down": (1, 1), "blocks_bottleneck": 1,
                            "blocks_up": (1, 1)}),
    "vqvae": ("VQVAE", {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": (12, 16),
                        "num_res_layers": 1, "num_res_channels": (10, 14), "embedding_dim": 20,
                        "downsample_parameters": ((2, 4, 1, 1),) * 2,
                        "upsample_parameters": ((2, 4, 1, 1, 0),) * 2}),
})  # fmt: skip
monai |= {
    "swin_unetr": (new(f"{MONAI}:SwinUNETR", **ONE, feature_size=12, window_size=4, depths=(1, 1, 1, 1)),
                   images(64, channels=1)),
    "unetr": (
        new(f"{MONAI}:UNETR", 1, 3, 32, feature_size=8, hidden_size=48, mlp_dim=64, num_heads=4, spatial_dims=2),
        SLICES),
    "vnet": (new(f"{MONAI}:VNet", in_channels=1, out_channels=3, spatial_dims=2), SLICES),
    "vit": (new(f"{MONAI}:ViT", 1, 32, 8, hidden_size=48, mlp_dim=64, num_layers=2, num_heads=4, spatial_dims=2,
                classification=True), SLICES),
    "diffusion_unet": (
        new(f"{MONAI}:DiffusionModelUNet", spatial_dims=2, in_channels=1, out_channels=1, channels=(8, 16),
            num_res_blocks=1, attention_levels=(False, True), norm_num_groups=4, num_head_channels=8,
            with_conditioning=True, cross_attention_dim=12),
        given(floats(2, 1, 16, 16), ints(100, 2), floats(2, 5, 12))),
    "decoder_only": (new(f"{MONAI}:DecoderOnlyTransformer", 50, 12, 32, 2, 4), given(ints(50, 2, 12))),
}  # fmt: skip

SMALL: dict[str, Any] = {"encoder_name": "mobilenet_v2", "encoder_weights": None, "classes": 3}
DECODER = {**SMALL, "decoder_channels": (48, 32, 24, 16, 16)}
smp = same(images(64), "segmentation_models_pytorch", {
    "unet": ("Unet", {**DECODER, "decoder_attention_type": "scse"}),
    "unet_plus_plus": ("UnetPlusPlus", DECODER),
    "manet": ("MAnet", {**DECODER, "encoder_name": "resnet18"}),
    "linknet": ("Linknet", {**SMALL, "encoder_name": "resnet18"}),
    "fpn": ("FPN", SMALL),
    "pspnet": ("PSPNet", SMALL),
    "deeplabv3": ("DeepLabV3", SMALL),
    "deeplabv3_plus": ("DeepLabV3Plus", SMALL),
    "upernet": ("UPerNet", SMALL),
    "segformer": ("Segformer", {**SMALL, "encoder_name": "mit_b0"}),
})  # fmt: skip

smp["pan"] = (new("segmentation_models_pytorch:PAN", **SMALL), images(128))

RECIPES: dict[str, Recipe] = {**of("monai", monai), **of("segmentation_models_pytorch", smp)}
