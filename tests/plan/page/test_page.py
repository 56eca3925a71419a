"""The page of a plan needs no other file, shows every parameter, and says all that the table says."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.html.document import resource
from surgery.html.numbers import COST_WORDS
from surgery.plan import Plan
from surgery.plan.groups import KINDS
from surgery.plan.page.kinds import SIGNS, label
from tests.models import attention, convolutional, language, recurrent, vision_transformers
from tests.models.case import Case
from tests.models.deep import Deep, X

PAGE = resource("surgery.plan.page", "page.css")
MODELS = (convolutional, vision_transformers, language, attention, recurrent)
CASES = [case for module in MODELS for case in module.CASES]
EVIL = '</style><script>alert(1)</script><img src="http://x/y" onerror="alert(2)"> & "friends"'


class Found(HTMLParser):
    """The tags of a page, the texts of some, and all words."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.words, self._inside = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._inside, []).append(data)
        if self._inside not in ("style", "script"):
            self.words += data


def written(plan: Plan, folder: Path, **options: object) -> str:
    path = plan.report(folder / "plan.html", **options)  # type: ignore[arg-type]
    assert [*folder.iterdir()] == [path]
    return path.read_text(encoding="utf-8")


def llama(layers: int) -> Plan:
    model = language.Llama(layers=layers)
    return surgery.inspect(model, torch.randint(61, (2, 5)), rehearse=False)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_parameter_group_and_reason_is_there(case: Case, tmp_path: Path) -> None:
    plan = surgery.inspect(case.build(), case.inputs(0), rehearse=False)
    found = Found(written(plan, tmp_path, widths=0.5))
    layers = {a["aria-label"] for _, a in found.tags if (a.get("class") or "").startswith("layer ")}
    own = {"parameters of its own", plan.model} & layers
    assert {path for name in plan.parameters if (path := name.rpartition(".")[0])} <= layers
    assert bool(own) == any("." not in name for name in plan.parameters)
    assert all(name in found.words for name in plan.groups)
    assert all(item.reason in found.words for item in plan.fixed)
    assert all(note in found.words for note in plan.notes)
    assert sum(tag == "figcaption" for tag, _ in found.tags) >= len(plan.parameters)
    for measure in ("params", "macs", "bytes"):
        for widths in (plan.full(), plan.widths(0.5)):
            assert COST_WORDS[measure].words(getattr(plan.cost_model.at(widths), measure)) in found.words


def test_only_its_own_style_and_script_may_run(tmp_path: Path) -> None:
    text = written(llama(1), tmp_path)
    found = Found(text)
    policy = next(a["content"] or "" for tag, a in found.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    for tag in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256("".join(found.texts[tag]).encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not [a for _, a in found.tags if {"style", "src", "href", "onclick"} & a.keys()]
    assert "http:" not in text and "https:" not in text and "url(#hatch)" in text


def test_hostile_names_are_only_texts(tmp_path: Path) -> None:
    evil = EVIL.replace(".", "")
    model = type(evil, (nn.Sequential,), {})()
    model.add_module(evil, nn.Linear(3, 4))
    model.add_module("b", nn.Linear(4, 2))
    found = Found(written(surgery.inspect(model, torch.randn(2, 3)), tmp_path, title=EVIL))
    tags = [tag for tag, _ in found.tags]
    assert "img" not in tags and tags.count("script") == tags.count("style") == 1
    assert EVIL in found.words and evil in found.words


def test_titles(tmp_path: Path) -> None:
    assert "<h1>Llama and its widths</h1>" in written(llama(1), tmp_path)
    assert "<h1>Mine</h1>" in written(llama(1), tmp_path, title="Mine")


def test_widths_are_those_of_the_plan(tmp_path: Path) -> None:
    plan = llama(1)
    full = written(plan, tmp_path)
    assert 'class="hollow"' not in full and "kept" not in Found(full).words
    half = Found(written(plan, tmp_path, widths={"ffn": 0.25, "*:kv_heads": 1})).words
    assert "→ 17 × 48" in half and "816 kept" in half
    with pytest.raises(surgery.WidthError, match="no group matches 'nope'"):
        plan.report(tmp_path / "plan.html", widths={"nope": 3})
    with pytest.raises(surgery.InputError, match=r"no/plan\.html: cannot be written"):
        plan.report(tmp_path / "no" / "plan.html")


def test_large_plans_fold_and_stay_small(tmp_path: Path) -> None:
    plan = llama(32)
    start = time.perf_counter()
    text = written(plan, tmp_path, widths=0.5)
    assert time.perf_counter() - start < 2  # a second on a machine that is not busy
    assert 100_000 < len(text) < 1_000_000
    found = Found(text)
    assert "layers.{0..31}" in found.words and "32 blocks that are alike" in found.words
    assert sum(tag == "details" for tag, _ in found.tags) == 2  # the blocks, and the table of groups


def test_widths_that_go_along_the_blocks_are_bars(tmp_path: Path) -> None:
    plan = llama(6)
    widths = {f"layers.{i}.mlp.gate_proj.o": 10 * (i + 1) for i in range(6)}
    text = written(plan, tmp_path, widths=widths)
    assert text.count('class="profile"') == 1
    assert "widths from layers.0 to layers.5: 10, 20, 30, 40, 50, 60" in text
    assert "6 blocks, alike but for their widths; below is layers.0" in Found(text).words


class Odd(nn.Module):
    """A number, a parameter that nothing reads, and one that is fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.unread = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(3, 1, 2))
        self.out = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x) * self.scale


@pytest.mark.parametrize("model", [Odd(), nn.Linear(3, 2), nn.ReLU()], ids=lambda model: type(model).__name__)
def test_models_without_anything_to_cut(model: nn.Module, tmp_path: Path) -> None:
    plan = surgery.inspect(model, torch.randn(4, 3))
    assert not plan.groups
    words = Found(written(plan, tmp_path)).words
    assert all(f"{item.elements:,} fixed: {item.reason}" in words for item in plan.fixed)


# ---- kinds


def test_every_kind_has_a_sign_a_colour_and_a_filter() -> None:
    assert SIGNS.keys() == KINDS.keys() and len(set(SIGNS.values())) == len(KINDS)
    for kind in KINDS:
        assert PAGE.count(f"--{kind}: #") == 3  # light, dark, and on paper
        assert f".k-{kind} {{ --k: var(--{kind}); }}" in PAGE
        assert f"[value={kind}]:checked) .layer.k-{kind}" in PAGE and f"[value={kind}]:checked) tr.k-{kind}" in PAGE


# Machado et al. 2009: what people see who lack a cone, of linear RGB; and what all others see.
SEEN = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
)
OKLAB = (
    ((0.4122214708, 0.5363325363, 0.0514459929), (0.2119034982, 0.6806995451, 0.1073969566),
     (0.0883024619, 0.2817188376, 0.6299787005)),
    ((0.2104542553, 0.793617785, -0.0040720468), (1.9779984951, -2.428592205, 0.4505937099),
     (0.0259040371, 0.7827717662, -0.808675766)),
)  # fmt: skip


@pytest.mark.parametrize("scheme, paper", [(0, "#ffffff"), (1, "#14181f")], ids=["light", "dark"])
def test_colours_are_told_apart_by_all_eyes_and_stand_out(scheme: int, paper: str) -> None:
    colours = [re.findall(rf"--{kind}: (#\w{{6}})", PAGE)[scheme] for kind in KINDS]
    rgb = torch.stack([_linear(colour) for colour in colours])
    for seen in SEEN:
        lms = ((rgb @ torch.tensor(seen, dtype=torch.float32).T).clamp(0, 1) @ torch.tensor(OKLAB[0]).T) ** (1 / 3)
        apart = torch.pdist(lms @ torch.tensor(OKLAB[1]).T)
        assert apart.min() > 0.08  # a just noticeable difference is about 0.02
    light, ground = (x @ torch.tensor((0.2126, 0.7152, 0.0722)) + 0.05 for x in (rgb, _linear(paper)))
    assert torch.maximum(light / ground, ground / light).min() >= 3


def _linear(colour: str) -> Tensor:
    values = torch.tensor([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def test_labels_are_as_long_as_there_is_room() -> None:
    groups = {"a": surgery.plan.Group("a", 4, kind="heads"), "b": surgery.plan.Group("b", 16, kind="head_width")}
    said = [label(("a", "b"), groups, 64, room) for room in (200, 80, 50, 30, 5)]
    assert said == ["heads 4 × head width 16", "H 4 × W 16", "H4×W16", "H×W", ""]
    assert label((), groups, 1000, 50) == "1,000"


# ---- modules that come and go


def test_modules_that_are_left_out_are_drawn_as_gone(tmp_path: Path) -> None:
    plan = surgery.inspect(Deep(), X, depth={"layers.depth": [2, 0, 1, 3]})
    text = written(plan, tmp_path, widths={"layers.depth": 2})
    assert text.count("→ left out<") == 12  # six tensors in each of the layers 1 and 3
    assert text.count("elements, left out)") == 12
    before = written(plan, tmp_path)
    assert "→ left out" not in before and text.count('class="hollow"') - before.count('class="hollow"') >= 12
    cost = plan.cost_model.at(plan.widths({"layers.depth": 2}))
    assert f"{cost.params:,}" in text


def test_modules_that_may_go_have_the_kind_of_their_group(tmp_path: Path) -> None:
    text = written(surgery.inspect(Deep(), X, depth=True, rehearse=False), tmp_path)
    cards = re.findall(r'class="(layer [^"]*)"[^>]*aria-label="([^"]*)"', text)
    kinds = {path: classes for classes, path in cards}
    assert "k-depth" in kinds["layers.0.up"] and "k-depth" not in kinds["head"]
