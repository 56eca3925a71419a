"""The laws over random programs in the spellings of real code: some by default, 2,000 where slow tests run."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import pytest
import torch

from surgery.plan import cutting
from tests.laws.fuzz.fragments.tables import TABLES
from tests.laws.fuzz.grammar import expand, labels
from tests.laws.fuzz.nets import KINDS
from tests.laws.fuzz.program import program, recipe
from tests.laws.fuzz.run import BROKEN, FAILED, REFUSED, minimal, run, tried
from tests.laws.fuzz.words import WORDS

QUICK, SLOW, CHUNK = range(0, 40), range(1000, 3000), 50


def hold(seeds: Iterable[int]) -> None:
    found = [run(seed) for seed in seeds]
    wrong = [minimal(one).headline for one in found if one.kind in (FAILED, BROKEN)]
    assert not wrong, "\n".join([*wrong, "python -m tests.laws.fuzz --only SEED prints one"])
    shares = [one.share for one in found if one.share]
    assert sum(shares) > 0.8 * len(found), "plans are worth little"
    refused = [one.headline for one in found if one.kind == REFUSED]
    assert len(refused) <= max(1, len(found) // 25), "\n".join(refused)


@pytest.mark.parametrize("first", QUICK[::10])
def test_promises_hold_for_a_few_programs(first: int) -> None:
    hold(range(first, first + 10))


@pytest.mark.slow
@pytest.mark.parametrize("first", SLOW[::CHUNK])
def test_promises_hold_for_many_programs(first: int) -> None:
    hold(range(first, first + CHUNK))


def test_a_seed_is_always_the_same_program() -> None:
    assert [program(recipe(seed)).source for seed in range(5)] == [program(recipe(seed)).source for seed in range(5)]


@pytest.mark.parametrize("kind", TABLES)
def test_labels_have_as_many_alternatives_at_each_place(kind: str) -> None:
    texts = {name: fragment.text for name, fragment in TABLES[kind].items()}
    for name, text in {**texts, kind: KINDS[kind][0]}.items():
        for label, counts in labels(text).items():
            assert len(counts) == 1, f"{name}: <{label}| has {sorted(counts)} alternatives"


def test_a_text_is_drawn_from_its_alternatives() -> None:
    drawn = {expand("<k|a|| <|b||c|> |>-<k|1||2|>$per(x, y)", Random(i), {"per": ["{0}/{1}"]}) for i in range(50)}
    assert drawn == {"a-1x/y", "b-2x/y", "c-2x/y"}
    with pytest.raises(ValueError, match="another number of alternatives"):
        [expand("<k|a||b|><k|a|>", Random(i), WORDS) for i in range(50)]


def test_what_a_plan_does_not_say_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of the last features instead of the first: twin and small model agree, and no proof sees it."""

    def last(tensor: torch.Tensor, parts: cutting.Kept) -> torch.Tensor:
        for dim, part in enumerate(parts):
            if isinstance(part, int):
                tensor = tensor.narrow(dim, tensor.shape[dim] - part, part)
            elif part is not None:
                tensor = tensor.index_select(dim, part)
        return tensor

    monkeypatch.setattr(cutting, "_take", last)
    assert any(tried(recipe(seed)).check in ("zeroed", "gradients_inside") for seed in range(12))
