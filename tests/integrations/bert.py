"""A small BERT that classifies, and its data."""

from __future__ import annotations

from typing import Any

import torch
import transformers

TOKENS = torch.randint(0, 20, (32, 5), generator=torch.Generator().manual_seed(0))
ROWS = [{"input_ids": row, "labels": (row[0] > 9).long()} for row in TOKENS]
INNER = "bert.encoder.layer.0.intermediate.dense"  # its group has 32 units


def bert() -> Any:
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=2
    )
    torch.manual_seed(0)
    return transformers.BertForSequenceClassification(config)


def arguments(folder: Any, **options: Any) -> Any:
    """Six steps of four rows, without checkpoints."""
    common: dict[str, Any] = {
        "per_device_train_batch_size": 4, "max_steps": 6, "learning_rate": 1e-2, "report_to": [], "use_cpu": True,
        "disable_tqdm": True, "seed": 0, "save_strategy": "no",
    }  # fmt: skip
    return transformers.TrainingArguments(output_dir=str(folder), **common | options)
