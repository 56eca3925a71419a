"""Recording disturbs nothing that a run does on the side: modules it imports, caches it makes and returns."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import torch
from torch import Tensor, nn

import surgery
from tests.laws.laws import order_is_free


class KeyCache:
    """What a decoder keeps of the tokens that it has seen."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []

    def update(self, keys: Tensor) -> Tensor:
        self.keys.append(keys)
        return torch.cat(self.keys, 1)


class Caching(nn.Module):
    """Attention over a cache that the forward makes, hands to its block, and returns."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.out = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 6)

        def forward(self, x: Tensor, cache: KeyCache) -> Tensor:
            keys = cache.update(self.key(x))
            return self.out((self.query(x) @ keys.mT).softmax(-1) @ keys)

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block, self.head = nn.Linear(5, 6), self.Block(), nn.Linear(6, 3)

    def forward(self, x: Tensor, cache: KeyCache | None = None) -> dict[str, Any]:
        cache = KeyCache() if cache is None else cache
        return {"logits": self.head(self.block(self.embed(x), cache)), "cache": cache}


def test_a_cache_that_is_returned_is_state() -> None:
    model, x = Caching().double().eval(), torch.randn(2, 4, 5).double()
    plan = surgery.inspect(model, x)
    assert list(plan.groups) == ["embed.o", "block.query.o", "block.out.o"]
    assert any("the KeyCache that it returns is its state" in note for note in plan.notes)
    order_is_free(model, plan, (x,), torch.Generator().manual_seed(0))
    wrapped = surgery.wrap(model, x).eval()
    small = surgery.shrink(wrapped, 0.5)
    with surgery.at_widths(wrapped, 0.5), torch.no_grad():
        first, other = wrapped(x), small(x)
        again, others = wrapped(x, first["cache"]), small(x, other["cache"])
    assert first["cache"].keys[0].shape == (2, 4, 4)
    torch.testing.assert_close(again["logits"], others["logits"])


class Importing(nn.Module):
    """Imports a module at its first forward, as lazy packages do."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

    def forward(self, x):
        import keeps_range

        for i in keeps_range.kept(len(self.layers)):
            x = self.layers[i](x)
        return x


def test_a_module_imported_while_recording_sees_pythons_own_range(tmp_path, monkeypatch):
    """torch.compile keeps builtins in tables when it is imported, which may happen in a forward."""
    (tmp_path / "keeps_range.py").write_text("kept = range\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = builtins.__import__
    surgery.inspect(Importing(), torch.randn(2, 8))
    assert sys.modules.pop("keeps_range").kept is range
    assert builtins.__import__ is before


def test_a_new_forward_that_calls_what_recordings_replace() -> None:
    """einops keeps shapes, so recordings put a function in place of one of its own, which new forwards know by name."""
    from einops import rearrange

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 12), nn.Linear(12, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = rearrange(self.a(x), "b t (h d) -> b t h d", h=3).softmax(1)
            return self.b(rearrange(y, "b t h d -> b t (h d)"))

    x = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    small = surgery.shrink(Heads(), {"a.o.0": 2}, x)
    assert "forward" in vars(small)
    assert surgery.inspect(small, x).fixed  # it runs, though a new forward cannot be changed again
