"""What a new user comes with: a CNN with BatchNorm, a language model with a configuration, an MLP; and their data."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import surgery
from tests.small_models import mlp

IMAGES = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 4
ROWS = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
IDS = torch.randint(11, (2, 6), generator=torch.Generator().manual_seed(2))
QUIET: dict[str, Any] = {"progress": False, "measure_latency": False}


class Cnn(nn.Module):
    """Its groups are conv1.o (8) and conv2.o (16)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width)
        self.fc = nn.Linear(2 * width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(x.mean((2, 3)))


class Block(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, width = config, config.hidden_size
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))
        self.up_proj = nn.Linear(width, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, width)

    def forward(self, x: Tensor) -> Tensor:
        given = self.norm1(x)
        parts = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (part(given).unflatten(-1, (self.config.num_heads, -1)).transpose(1, 2) for part in parts)
        x = x + self.o_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down_proj(F.gelu(self.up_proj(self.norm2(x))))


class LanguageModel(nn.Module):
    """Built from a configuration, called by names, and returns a dict: as those of transformers."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None) -> Any:
        x = self.embed(input_ids)
        for layer in self.layers:
            x = layer(x)
        hidden = self.norm(x)
        logits = self.lm_head(hidden)
        loss = {} if labels is None else {"loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten())}
        return {**loss, "logits": logits, "hidden": hidden}


def cnn() -> Cnn:
    torch.manual_seed(0)
    return Cnn()


def net() -> nn.Sequential:
    """Groups 0.o (16) and 2.o (8), no BatchNorm."""
    return mlp(6, 16, 8, 4)


def lm(layers: int = 2) -> LanguageModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": 11, "hidden_size": 16, "intermediate_size": 24, "num_heads": 4, "num_layers": layers}
    return LanguageModel(SimpleNamespace(**sizes))


def twin(**options: Any) -> Any:
    """The CNN, wrapped as the docs say."""
    return surgery.wrap(cnn(), IMAGES, **{"calibration": [IMAGES], **options})


def wrapped_net(**options: Any) -> Any:
    return surgery.wrap(net(), ROWS, **options)


def wrapped_lm(layers: int = 2, **options: Any) -> Any:
    return surgery.wrap(lm(layers), {"input_ids": IDS}, **options)


def loader() -> DataLoader[Any]:
    return DataLoader(TensorDataset(IMAGES, LABELS), batch_size=4)


def entropy(output: Tensor) -> Tensor:
    return F.cross_entropy(output, LABELS)


def size_of(model: Any) -> int:
    """The parameters of a wrapped model at the widths that are set: a score that anyone can check."""
    return surgery.cost(model, surgery.widths(model)).params


def accuracy(model: nn.Module) -> float:
    return (model(IMAGES).argmax(1) == LABELS).float().mean().item()
