"""The page of a plan in a real browser: it asks for nothing, and works without a mouse and without a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import surgery
from surgery.plan import Plan
from tests.models.convolutional import BasicBlock, ResNet
from tests.models.language import Llama
from tests.models.vision_transformers import ViT
from tests.pages import RATIO, Open, visiting

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    image = torch.randn(2, 3, 32, 32)
    return {
        "cnn": surgery.inspect(ResNet(BasicBlock, (2, 2, 2), (12, 20, 36)), image),
        "vit": surgery.inspect(ViT(depth=3), image),
        "llama": surgery.inspect(Llama(layers=4), torch.randint(61, (2, 5))),
    }


@pytest.fixture
def visit(browser: Any, plans: dict[str, Plan], tmp_path: Path) -> Iterator[Open]:
    """Writes a page and opens it."""
    with visiting(browser) as open_:

        def visit(
            name: str, *, viewport: dict[str, int] = DESK, script: bool = True, dark: bool = False, **options: Any
        ) -> Any:
            path = plans[name].report(tmp_path / "plan.html", **options)
            return open_(path, viewport=viewport, script=script, dark=dark)

        yield visit


@pytest.mark.parametrize("name", ["cnn", "vit", "llama"])
@pytest.mark.parametrize("widths", [None, 0.5])
def test_a_phone_never_scrolls_sideways(name: str, widths: float | None, visit: Open) -> None:
    page = visit(name, viewport=PHONE, widths=widths)
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    sizes = page.locator(".layer text, figcaption, figcaption b").evaluate_all(
        "all => all.map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 11  # pictures are not scaled: these are the sizes on the screen
    boxes = page.locator(".layer svg").evaluate_all("all => all.map(e => e.getBoundingClientRect().right)")
    assert max(boxes) <= PHONE["width"]


@pytest.mark.parametrize("script", [True, False])
def test_a_layer_tells_itself_on_focus_and_hover(script: bool, visit: Open) -> None:
    page = visit("vit", script=script)
    head = page.locator("[aria-label=head]")
    tip = head.locator(".tip")
    assert not tip.is_visible()
    head.focus()
    assert tip.is_visible() and "10 fixed: it is an output of the model" in tip.inner_text()
    assert page.locator(f"#{head.get_attribute('aria-describedby')}").inner_text() == tip.inner_text()
    page.locator("[aria-label=norm]").hover()
    assert not tip.is_visible()
    assert "residual 24" in page.locator("[aria-label=norm] .tip").inner_text()


@pytest.mark.parametrize("script", [True, False])
def test_kinds_that_are_ticked_are_what_is_seen(script: bool, visit: Open, plans: dict[str, Plan]) -> None:
    page = visit("llama", script=script)
    page.locator("[value=heads]").check()
    strong = page.locator("div.layer").evaluate_all(
        "all => all.filter(e => e.checkVisibility() && getComputedStyle(e).opacity === '1').map(e => e.ariaLabel)"
    )
    assert strong == ["layers.0.self_attn.q_proj", "layers.0.self_attn.o_proj"]
    rows = page.locator("section > .scroll tbody tr")
    assert [row.is_visible() for row in rows.all()].count(True) == 1
    page.locator("[value=ffn]").check()
    assert [row.is_visible() for row in rows.all()].count(True) == 2
    weak = page.locator("[aria-label='layers.0.input_layernorm']")
    weak.hover()
    assert weak.evaluate("e => getComputedStyle(e).opacity") == "1"  # what it says must be read


def test_blocks_open_without_a_script(visit: Open) -> None:
    page = visit("llama", script=False)
    other = page.locator("[aria-label='layers.2.mlp.up_proj']")
    assert not other.is_visible()
    page.get_by_text("The other 3, one by one").click()
    assert other.is_visible()
    assert not page.locator(".search").is_visible()


def test_names_filter_layers_and_rows(visit: Open) -> None:
    page = visit("llama")
    entry = page.get_by_label("Filter by name")
    names = {
        "layers.2.mlp": 3,  # inside of the fold, which opens
        "LM_HEAD": 1,
        "layers.*.up_proj": 4,
        "layers.0.mlp.gate_proj.o": 3,  # a group: all that it cuts
        "nothing (": 0,
    }
    for text, count in names.items():
        entry.fill(text)
        seen = [layer for layer in page.locator("div.layer").all() if layer.is_visible()]
        assert len(seen) == count, text
        assert page.locator("output").inner_text().startswith(f"{count} of ")
    entry.fill("")
    assert page.locator("[aria-label='embed_tokens']").is_visible()
    assert not page.locator("[aria-label='layers.2.mlp.up_proj']").is_visible()  # closed again


def test_keys(visit: Open) -> None:
    page = visit("cnn")
    page.locator("[aria-label=conv1]").focus()
    for key, label in (("ArrowRight", "bn1"), ("ArrowDown", "layer1.0.conv1"), ("ArrowLeft", "bn1"), ("Tab", None)):
        page.keyboard.press(key)
        focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert focused == (label or "layer1.0.conv1")
    page.keyboard.press("Escape")
    assert not any(tip.is_visible() for tip in page.locator(".tip").all())


CONTRAST = (
    f"() => {{{RATIO}"
    """
  const [page, card] = [style('body').backgroundColor, style('.layer').backgroundColor];
  return {
    text: Math.min(ratio(style('.how').color, page), ratio(style('.kinds small').color, page),
                   ratio(style('.kinds text').fill, page), ratio(style('.layer text').fill, card),
                   ratio(style('figcaption').color, card), ratio(style('.what').color, card)),
    bands: Math.min(...[...document.querySelectorAll('.layer .band:not(.k-fixed)')]
      .map((band) => ratio(getComputedStyle(band).fill, card))),
  };
}"""
)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ["cnn", "vit", "llama"])
def test_texts_and_bands_stand_out(name: str, dark: bool, visit: Open) -> None:
    contrast = visit(name, dark=dark).evaluate(CONTRAST)
    assert contrast["text"] >= 4.5 and contrast["bands"] >= 3


def test_what_is_fixed_is_hatched(visit: Open) -> None:
    page = visit("cnn")
    bias = page.locator("[aria-label=fc] .band.k-fixed").first
    assert "hatch" in bias.evaluate("e => getComputedStyle(e).fill")
    assert page.locator("#hatch").count() == 1


def test_on_paper_there_is_nothing_to_press(visit: Open) -> None:
    page = visit("llama", widths=0.5, dark=True)
    page.locator("[aria-label=norm]").focus()
    page.emulate_media(media="print")
    for selector in (".search", ".tip", ".kinds input"):
        assert not any(element.is_visible() for element in page.locator(selector).all())
    assert page.locator(".layer").first.is_visible() and page.locator("table").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
