"""Graphs (torch_geometric) and fields (neuralop)."""

from __future__ import annotations

from typing import Any

import torch

from ..entry import generator
from ..recipe import Recipe, floats, given, ints, new, of, same

NODES, EDGES = 12, 40


def edges(seed: int) -> torch.Tensor:
    """Pairs of nodes, a ring among them so that none is alone."""
    ring = torch.arange(NODES)
    drawn = torch.randint(NODES, (2, EDGES - NODES), generator=generator(seed))
    return torch.cat([torch.stack([ring, (ring + 1) % NODES]), drawn], 1)


GRAPH = given(floats(NODES, 10), edges)
NET: dict[str, Any] = {"in_channels": 10, "hidden_channels": 16, "num_layers": 3, "out_channels": 5}
PYG = "torch_geometric.nn.models"
pyg = same(GRAPH, PYG, {
    "gcn": ("GCN", {**NET, "norm": "batch_norm"}),
    "graph_sage": ("GraphSAGE", {**NET, "jk": "cat"}),
    "gin": ("GIN", NET),
    "gat": ("GAT", {**NET, "heads": 2}),
    "gatv2": ("GAT", {**NET, "heads": 2, "v2": True, "jk": "max"}),
    "edge_cnn": ("EdgeCNN", NET),
    "pna": ("PNA", {**NET, "aggregators": ["mean", "max"], "scalers": ["identity", "amplification"],
                    "deg": torch.ones(8, dtype=torch.long)}),
    "graph_unet": ("GraphUNet", {"in_channels": 10, "hidden_channels": 16, "out_channels": 5, "depth": 1}),
    "linkx": ("LINKX", {"num_nodes": NODES, **NET}),
})  # fmt: skip
ATOMS, PLACES = ints(8, NODES, low=1), floats(NODES, 3)
pyg |= {
    "mlp": (new(f"{PYG}:MLP", [10, 16, 12, 5]), given(floats(8, 10))),
    "light_gcn": (new(f"{PYG}:LightGCN", NODES, 16, 2), given(edges)),
    "attentive_fp": (new(f"{PYG}:AttentiveFP", 10, 16, 5, 4, 2, 2),
                     given(floats(NODES, 10), edges, floats(EDGES, 4), torch.arange(NODES) // 6)),
}  # fmt: skip

FIELDS = given(floats(2, 2, 16, 16))
neuralop = same(FIELDS, "neuralop.models", {
    "fno": ("FNO", {"n_modes": (6, 6), "in_channels": 2, "out_channels": 1, "hidden_channels": 12, "n_layers": 2}),
    "fno_norm": ("FNO", {"n_modes": (6, 6), "in_channels": 2, "out_channels": 1, "hidden_channels": 12, "n_layers": 2,
                         "norm": "group_norm", "fno_skip": "identity", "channel_mlp_skip": "linear"}),
    "uno": ("UNO", {"in_channels": 2, "out_channels": 1, "hidden_channels": 12, "lifting_channels": 16,
                    "projection_channels": 16, "n_layers": 3, "channel_mlp_skip": "linear",
                    "uno_out_channels": [12, 16, 12], "uno_n_modes": [[4, 4]] * 3,
                    "uno_scalings": [[0.5, 0.5], [1, 1], [2, 2]]}),
})  # fmt: skip

RECIPES: dict[str, Recipe] = {**of("torch_geometric", pyg), **of("neuralop", neuralop)}
