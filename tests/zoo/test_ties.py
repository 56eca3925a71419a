"""Kinds and the ties of configurations on models of transformers: what they say is what happens."""

from __future__ import annotations

import pytest
import torch

import surgery
from tests.zoo.transformers_models import build

transformers = pytest.importorskip("transformers", reason="the models are those of transformers: pip install it")
pytestmark = pytest.mark.slow

# With the kinds of the ties that their configurations can say.
TIED = {
    "albert": ["embedding", "ffn", "heads residual"],
    "bert": ["ffn", "heads residual"],
    "bloom": ["ffn head_width residual"],
    "convnext": ["channels residual"],
    "deit": ["ffn", "heads residual"],
    "distilbert": ["ffn", "heads residual"],
    "electra": ["embedding", "ffn", "heads residual"],
    "falcon": ["ffn", "heads residual"],
    "gemma2": ["ffn", "heads", "kv_heads"],
    "gpt2": ["ffn", "heads residual"],
    "gpt_neo": ["ffn", "heads residual"],
    "gpt_neox": ["ffn", "heads residual"],
    "llama": ["ffn", "heads", "kv_heads", "residual"],
    "mamba": ["hidden", "inner", "inner", "residual"],
    "mistral": ["ffn", "heads", "kv_heads", "residual"],
    "mixtral": ["ffn", "heads", "kv_heads", "residual"],
    "modernbert": ["ffn"],
    "opt": ["ffn", "heads residual"],
    "qwen3": ["ffn", "heads", "kv_heads", "residual"],
    "t5": ["ffn", "head_width", "heads"],
    "vit": ["ffn", "heads residual"],
    "whisper": ["ffn", "ffn"],
}


@pytest.fixture(autouse=True)
def quiet():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


@pytest.mark.parametrize("kind", sorted(TIED))
def test_what_a_configuration_ties_is_written_and_read(kind: str, tmp_path) -> None:
    torch.manual_seed(0)
    built = build(kind)
    model, x = built.model.eval(), built.inputs(0)
    wrapped = surgery.wrap(model, x, tie="config")
    plan = surgery.inspect(wrapped)
    if kind != "convnext":
        assert sorted(" ".join(sorted({plan.groups[n].kind for n in tie.groups})) for tie in plan.ties) == TIED[kind]
    for fraction in (0.5, 0.75):
        small = surgery.shrink(wrapped, fraction)
        assert "config" not in small.surgery_record
        small.save_pretrained(tmp_path / str(fraction))
        surgery.verify(small, type(small).from_pretrained(tmp_path / str(fraction)).eval(), x)


@pytest.mark.parametrize("kind", sorted(set(TIED) - {"convnext", "mamba"}))
def test_half_of_the_heads_are_half_of_the_heads(kind: str) -> None:
    torch.manual_seed(0)
    built = build(kind)
    wrapped = surgery.wrap(built.model.eval(), built.inputs(0))
    plan = surgery.inspect(wrapped)
    heads = [group for group in plan.groups.values() if group.kind == "heads"]
    if not heads:
        pytest.skip("its heads are no axis of their own")
    widths = plan.widths({"heads": 0.5})
    assert {name for name, width in widths.items() if width < plan.groups[name].size} == {g.name for g in heads}
    small = surgery.shrink(wrapped, {"heads": 0.5})
    known = dict(wrapped.named_modules())
    for path, module in small.named_modules():
        for name in ("num_heads", "num_attention_heads", "n_heads", "n_head"):
            if isinstance(now := vars(module).get(name), int) and path:
                assert now == vars(known[path])[name] // 2 or now == vars(known[path])[name]
    assert all(widths[group.name] == (group.size + 1) // 2 for group in heads)
