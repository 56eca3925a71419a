"""Rows of tables: click-through (deepctr_torch, torch_rechub), tabular nets (rtdl and others), flows (zuko)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..entry import integers, normal
from ..recipe import Recipe, floats, given, ints, new, of, same

ROWS = given(floats(8, 12))

FEATURES = "deepctr_torch.inputs"
COLUMNS = [
    *(new(f"{FEATURES}:SparseFeat", f"c{i}", vocabulary_size=9 + i, embedding_dim=6) for i in range(4)),
    new(f"{FEATURES}:DenseFeat", "d0", 1), new(f"{FEATURES}:DenseFeat", "d1", 2),
]  # fmt: skip


def clicks(seed: int) -> Tensor:
    """Four categories and three numbers."""
    return torch.cat([integers(seed, 9, 8, 4).to(torch.get_default_dtype()), normal(seed, 8, 3)], 1)


HIDDEN = (20, 14)
deepctr = {
    name: (new(f"deepctr_torch.models:{called}", COLUMNS, COLUMNS, dnn_hidden_units=HIDDEN, **options), given(clicks))
    for name, called, options in (
        ("deepfm", "DeepFM", {"dnn_use_bn": True}), ("wdl", "WDL", {}), ("dcn", "DCN", {}), ("nfm", "NFM", {}),
        ("dcn_matrix", "DCN", {"cross_parameterization": "matrix"}), ("autoint", "AutoInt", {"att_head_num": 2}),
        ("xdeepfm", "xDeepFM", {"cin_layer_size": (16, 12)}), ("fibinet", "FiBiNET", {}),
        ("difm", "DIFM", {"att_head_num": 2}),
        ("dcn_mix", "DCNMix", {"low_rank": 5, "num_experts": 2}),
    )
}  # fmt: skip
deepctr["pnn"] = (new("deepctr_torch.models:PNN", COLUMNS, dnn_hidden_units=HIDDEN), given(clicks))
deepctr["mmoe"] = (
    new("deepctr_torch.models:MMOE", COLUMNS, num_experts=2, expert_dnn_hidden_units=HIDDEN,
        gate_dnn_hidden_units=(10,), tower_dnn_hidden_units=(12,)), given(clicks))  # fmt: skip

BASIC = "torch_rechub.basic.features"
SPARSE = [new(f"{BASIC}:SparseFeature", f"s{i}", 9 + i, 6) for i in range(3)]
DENSE = [new(f"{BASIC}:DenseFeature", f"d{i}") for i in range(2)]
HISTORY = [new(f"{BASIC}:SequenceFeature", "h", 9, 6, pooling="concat", shared_with="s0")]
BEHAVIOUR = given({**{f"s{i}": ints(9, 8) for i in range(3)}, **{f"d{i}": floats(8) for i in range(2)},
                   "h": ints(9, 8, 5)})  # fmt: skip
MLP: dict[str, Any] = {"dims": [16, 12], "activation": "relu"}
TOWERS: dict[str, Any] = {"task_types": ["classification", "regression"], "tower_params_list": [{"dims": [10]}] * 2,
                          "expert_params": {"dims": [16, 12]}}  # fmt: skip
rechub = same(BEHAVIOUR, "torch_rechub.models", {
    "wide_deep": ("ranking:WideDeep", {"wide_features": DENSE, "deep_features": SPARSE, "mlp_params": MLP}),
    "deepfm": ("ranking:DeepFM", {"deep_features": DENSE, "fm_features": SPARSE, "mlp_params": MLP}),
    "dcn_v2": ("ranking:DCNv2", {"features": SPARSE + DENSE, "n_cross_layers": 2, "mlp_params": MLP, "low_rank": 5}),
    "din": ("ranking:DIN", {"features": SPARSE[1:], "history_features": HISTORY, "target_features": SPARSE[:1],
                            "mlp_params": {"dims": [16, 12]}, "attention_mlp_params": {"dims": [14]}}),
    "mmoe": ("multi_task:MMOE", {"features": SPARSE + DENSE, "n_expert": 2, **TOWERS}),
    "ple": ("multi_task:PLE", {"features": SPARSE + DENSE, "n_level": 2, "n_expert_specific": 1, "n_expert_shared": 1,
                               **TOWERS}),
    "dssm": ("matching:DSSM", {"user_features": SPARSE[:2], "item_features": SPARSE[2:], "user_params": MLP,
                               "item_params": MLP}),
})  # fmt: skip

TOKENS = given(floats(8, 5), ints(4, 8, 2))
BASELINE: dict[str, Any] = {"n_num_features": 5, "cat_cardinalities": [4, 4], "d_token": 16, "n_blocks": 2,
                            "attention_dropout": 0.1, "ffn_d_hidden": 24, "ffn_dropout": 0.1, "residual_dropout": 0.0,
                            "d_out": 3}  # fmt: skip
RESNET: dict[str, Any] = {"d_in": 12, "d_out": 3, "n_blocks": 2}
rtdl = {
    "mlp": (new("rtdl:MLP.make_baseline", 12, [16, 20, 24], 0.1, 3), ROWS),
    "resnet": (new("rtdl:ResNet.make_baseline", **RESNET, d_main=16, d_hidden=24, dropout_first=0.1,
                   dropout_second=0.0), ROWS),
    "ft_transformer": (new("rtdl:FTTransformer.make_baseline", **BASELINE), TOKENS),
}  # fmt: skip
REVISITED = "rtdl_revisiting_models"
revisited = {
    "mlp": (new(f"{REVISITED}:MLP", **RESNET, d_block=16, dropout=0.1), ROWS),
    "resnet": (new(f"{REVISITED}:ResNet", **RESNET, d_block=16, d_hidden_multiplier=1.5, dropout1=0.1,
                   dropout2=0.0), ROWS),
    "ft_transformer": (
        new(f"{REVISITED}:FTTransformer", n_cont_features=5, cat_cardinalities=[4, 4], d_out=3, n_blocks=2, d_block=16,
            attention_n_heads=4, attention_dropout=0.1, ffn_d_hidden=None, ffn_d_hidden_multiplier=1.5,
            ffn_dropout=0.1, residual_dropout=0.0), TOKENS),
}  # fmt: skip
TABNET: dict[str, Any] = {"virtual_batch_size": 8, "group_attention_matrix": new("torch:eye", 12)}
tabnet = {
    "tabnet": (new("pytorch_tabnet.tab_network:TabNet", 12, 3, **TABNET), ROWS),
    "tabnet_entmax": (new("pytorch_tabnet.tab_network:TabNet", 12, 3, **TABNET, mask_type="entmax"), ROWS),
}
TABS: dict[str, Any] = {"categories": (4, 4), "num_continuous": 5, "dim": 32, "depth": 2, "heads": 4}
tab_transformer = same(given(ints(4, 8, 2), floats(8, 5)), "tab_transformer_pytorch", {
    "tab_transformer": ("TabTransformer", {**TABS, "mlp_act": new("torch.nn:ReLU")}),
    "ft_transformer": ("FTTransformer", TABS),
    "ft_transformer_plain": ("FTTransformer", {**TABS, "num_residual_streams": 1}),
})  # fmt: skip


class Density(nn.Module):
    """The logarithm of a flow's density, which is what one trains it by."""

    def __init__(self, flow: nn.Module):
        super().__init__()
        self.flow = flow

    def forward(self, x: Tensor) -> Tensor:
        density: Tensor = self.flow().log_prob(x)
        return density


WIDTHS: dict[str, Any] = {"hidden_features": (24, 24)}
zuko = {
    name: (new(f"{__name__}:Density", new(f"zuko.flows:{called}", 4, transforms=2, **WIDTHS, **options)),
           given(floats(8, 4)))
    for name, called, options in (("maf", "MAF", {}), ("nsf", "NSF", {"bins": 4}), ("realnvp", "RealNVP", {}),
                                  ("nice", "NICE", {}))
}  # fmt: skip
zuko["mlp"] = (new("zuko.nn:MLP", 12, 3, (24, 16), normalize=True), ROWS)

RECIPES: dict[str, Recipe] = {
    **of("deepctr_torch", deepctr), **of("torch_rechub", rechub), **of("rtdl", rtdl), **of(REVISITED, revisited),
    **of("pytorch_tabnet", tabnet), **of("tab_transformer_pytorch", tab_transformer), **of("zuko", zuko),
}  # fmt: skip
