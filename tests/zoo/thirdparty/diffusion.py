"""Generative models of images: diffusers, denoising_diffusion_pytorch, vector_quantize_pytorch."""

from __future__ import annotations

from typing import Any

from ..recipe import Recipe, floats, given, images, ints, new, of, unit

STEPS = ints(1000, 2)
LATENTS, TEXT = floats(2, 4, 16, 16), floats(2, 7, 24)
BLOCKS: dict[str, Any] = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 4,
                          "attention_head_dim": 8}  # fmt: skip
DOWNS, DOWNS_3D = ("CrossAttnDownBlock2D", "DownBlock2D"), ("CrossAttnDownBlock3D", "DownBlock3D")
CROSS: dict[str, Any] = {**BLOCKS, "down_block_types": DOWNS, "cross_attention_dim": 24}
UPS = ("UpBlock2D", "CrossAttnUpBlock2D")
VAE: dict[str, Any] = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
                       "block_out_channels": (8, 16), "norm_num_groups": 4}  # fmt: skip
DIT: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2}
ROPE: dict[str, Any] = {**DIT, "attention_head_dim": 16}

diffusers = {
    "unet_2d": (new("diffusers:UNet2DModel", 16, 3, 3, **BLOCKS, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                    up_block_types=("AttnUpBlock2D", "UpBlock2D")), given(unit(2, 3, 16, 16), STEPS)),
    "unet_2d_condition": (new("diffusers:UNet2DConditionModel", 16, **CROSS, up_block_types=UPS),
                          given(LATENTS, STEPS, TEXT)),
    "unet_2d_condition_linear": (
        new("diffusers:UNet2DConditionModel", 16, **CROSS, up_block_types=UPS, use_linear_projection=True,
            transformer_layers_per_block=2), given(LATENTS, STEPS, TEXT)),
    "unet_3d_condition": (
        new("diffusers:UNet3DConditionModel", 16, **CROSS | {"down_block_types": DOWNS_3D},
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D")), given(floats(2, 4, 3, 16, 16), STEPS, TEXT)),
    "unet_1d": (new("diffusers:UNet1DModel", 64, in_channels=3, out_channels=3, extra_in_channels=64,
                    down_block_types=("DownBlock1DNoSkip", "DownBlock1D", "AttnDownBlock1D"),
                    up_block_types=("AttnUpBlock1D", "UpBlock1D", "UpBlock1DNoSkip")),
                given(floats(2, 3, 64), ints(1000, 1))),
    "controlnet": (new("diffusers:ControlNetModel", **CROSS, conditioning_embedding_out_channels=(8, 12)),
                   given(LATENTS, STEPS, TEXT, unit(2, 3, 32, 32))),
    "autoencoder_kl": (new("diffusers:AutoencoderKL", **VAE), images(32)),
    "vq_model": (new("diffusers:VQModel", **VAE, num_vq_embeddings=20), images(32)),
    "autoencoder_tiny": (
        new("diffusers:AutoencoderTiny", encoder_block_out_channels=(12, 12), decoder_block_out_channels=(12, 12),
            num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)), images(32)),
    "dit": (new("diffusers:DiTTransformer2DModel", **DIT, sample_size=16, norm_num_groups=4),
            given(LATENTS, timestep=STEPS, class_labels=ints(1000, 2))),
    "pixart": (new("diffusers:PixArtTransformer2DModel", **DIT, sample_size=16, norm_num_groups=4,
                   cross_attention_dim=24, caption_channels=24, use_additional_conditions=False),
               given(LATENTS, TEXT, STEPS, added_cond_kwargs={})),
    "sd3": (new("diffusers:SD3Transformer2DModel", sample_size=16, in_channels=4, out_channels=4, **DIT,
                joint_attention_dim=24, caption_projection_dim=24, pooled_projection_dim=10, pos_embed_max_size=16),
            given(LATENTS, TEXT, floats(2, 10), STEPS)),
    "flux": (new("diffusers:FluxTransformer2DModel", in_channels=8, num_layers=1, num_single_layers=1,
                 attention_head_dim=16, num_attention_heads=2, joint_attention_dim=24, pooled_projection_dim=10,
                 axes_dims_rope=(4, 4, 8)),
             given(floats(2, 12, 8), TEXT, floats(2, 10), unit(2), img_ids=floats(12, 3), txt_ids=floats(7, 3))),
    "sana": (new("diffusers:SanaTransformer2DModel", in_channels=4, out_channels=4, **DIT, num_cross_attention_heads=2,
                 cross_attention_head_dim=12, cross_attention_dim=24, caption_channels=24, sample_size=16),
             given(LATENTS, TEXT, STEPS)),
    "aura_flow": (new("diffusers:AuraFlowTransformer2DModel", 16, num_mmdit_layers=1, num_single_dit_layers=1,
                      attention_head_dim=12, num_attention_heads=2, joint_attention_dim=24, caption_projection_dim=24,
                      pos_embed_max_size=64), given(LATENTS, TEXT, unit(2))),
    "cogvideox": (new("diffusers:CogVideoXTransformer3DModel", **ROPE, in_channels=4, out_channels=4,
                      time_embed_dim=10, text_embed_dim=24, sample_width=8, sample_height=8, sample_frames=9,
                      max_text_seq_length=7), given(floats(2, 3, 4, 8, 8), TEXT, STEPS)),
    "prior": (new("diffusers:PriorTransformer", **DIT, embedding_dim=20, num_embeddings=7),
              given(floats(2, 20), STEPS, floats(2, 20), floats(2, 7, 20))),
}  # fmt: skip

DENOISERS = "denoising_diffusion_pytorch"
denoisers = {
    "unet": (new(f"{DENOISERS}:Unet", 16, dim_mults=(1, 2), attn_heads=2, attn_dim_head=8),
             given(unit(2, 3, 16, 16), STEPS)),
    "unet_1d": (new(f"{DENOISERS}:Unet1D", 16, dim_mults=(1, 2), attn_heads=2, attn_dim_head=8),
                given(floats(2, 3, 32), STEPS)),
    "karras_unet": (new(f"{DENOISERS}.karras_unet:KarrasUnet", image_size=16, dim=16, dim_max=32, num_downsamples=1,
                        num_blocks_per_stage=1, attn_res=(8,), attn_dim_head=8, fourier_dim=10),
                    given(unit(2, 4, 16, 16), unit(2))),
}  # fmt: skip

QUANTIZE = "vector_quantize_pytorch"
quantizers = {
    "vq": (new(f"{QUANTIZE}:VectorQuantize", 16, 20, codebook_dim=10), given(floats(2, 9, 16))),
    "residual_vq": (new(f"{QUANTIZE}:ResidualVQ", dim=16, codebook_size=20, num_quantizers=2, codebook_dim=10),
                    given(floats(2, 9, 16))),
    "fsq": (new(f"{QUANTIZE}:FSQ", levels=[5, 5, 4], dim=16), given(floats(2, 9, 16))),
}  # fmt: skip

RECIPES: dict[str, Recipe] = {
    **of("diffusers", diffusers),
    **of(DENOISERS, denoisers),
    **of(QUANTIZE, quantizers),
}
