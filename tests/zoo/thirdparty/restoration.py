"""Images into images: super-resolution and restoration (spandrel), learned compression (compressai)."""

from __future__ import annotations

from typing import Any

from ..recipe import Recipe, images, of, same

SWIN: dict[str, Any] = {"img_size": 16, "embed_dim": 24, "depths": [2], "num_heads": [3], "window_size": 4,
                        "mlp_ratio": 2.0, "upscale": 2, "upsampler": "pixelshuffle"}  # fmt: skip

spandrel = same(images(16), "spandrel.architectures", {
    "swinir": ("SwinIR:SwinIR", SWIN),
    "swin2sr": ("Swin2SR:Swin2SR", SWIN),
    "hat": ("HAT:HAT", {**SWIN, "num_feat": 16, "compress_ratio": 3, "squeeze_factor": 4}),
    "esrgan": ("ESRGAN.__arch.RRDB:RRDBNet", {"in_nc": 3, "out_nc": 3, "num_filters": 16, "num_blocks": 2, "scale": 2}),
    "compact": ("Compact.__arch.SRVGG:SRVGGNetCompact", {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 16,
                                                         "num_conv": 4, "upscale": 2}),
    "span": ("SPAN:SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 16, "upscale": 2}),
    "nafnet": ("NAFNet:NAFNet", {"width": 8, "middle_blk_num": 1, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]}),
    "rcan": ("RCAN:RCAN", {"scale": 2, "n_resgroups": 2, "n_resblocks": 2, "n_feats": 16, "reduction": 4}),
    "plksr": ("PLKSR:PLKSR", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2, "kernel_size": 7}),
    "safmn": ("SAFMN:SAFMN", {"dim": 16, "n_blocks": 2, "upscaling_factor": 2}),
    "omnisr": ("OmniSR:OmniSR", {"num_feat": 16, "window_size": 4, "up_scale": 2}),
    "dat": ("DAT:DAT", {"img_size": 16, "embed_dim": 24, "split_size": [2, 4], "depth": [2], "num_heads": [2],
                        "expansion_factor": 2.0}),
    "mosr": ("MoSR:MoSR", {"upscale": 2, "n_block": 2, "dim": 16}),
    "dncnn": ("DnCNN:DnCNN", {"in_nc": 3, "out_nc": 3, "nc": 16, "nb": 5}),
    "uformer": ("Uformer:Uformer", {"img_size": 32, "embed_dim": 8, "depths": [1] * 9, "win_size": 2,
                                    "num_heads": [1, 2, 2, 2, 2, 2, 2, 2, 1]}),
    "scunet": ("SCUNet:SCUNet", {"config": [1] * 7, "dim": 64, "input_resolution": 64}),
})  # fmt: skip
for name, side in {"uformer": 32, "scunet": 64}.items():
    spandrel[name] = (spandrel[name][0], images(side))

compressai = same(images(64), "compressai.models", {
    "factorized_prior": ("FactorizedPrior", {"N": 12, "M": 16}),
    "scale_hyperprior": ("ScaleHyperprior", {"N": 12, "M": 16}),
    "mean_scale_hyperprior": ("MeanScaleHyperprior", {"N": 12, "M": 16}),
    "cheng2020": ("Cheng2020Attention", {"N": 12}),
})  # fmt: skip

RECIPES: dict[str, Recipe] = {**of("spandrel", spandrel), **of("compressai", compressai)}
