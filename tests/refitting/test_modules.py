"""Refits of models with fewer modules: each weight is fitted where the full model has it, whatever it is called."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import surgery
from tests.models.deep import IMAGES, Deep, DeepCNN, deep_cnn

DATA = [torch.randn(64, 5, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
HELD = torch.randn(256, 5, generator=torch.Generator().manual_seed(9))
ORDER = [3, 0, 2, 1]


def trained() -> Deep:
    """A model whose blocks do little each, as after a training."""
    torch.manual_seed(0)
    model = Deep(4)
    with torch.no_grad():
        for layer in model.layers:
            layer.get_parameter("down.weight").mul_(0.5)
    return surgery.wrap(model, DATA[0], depth={"layers.depth": ORDER}).eval()


def far(a: Tensor, b: Tensor) -> float:
    return float(((a - b).norm() / b.norm()).detach())


def test_a_refit_makes_up_for_modules_that_are_left_out() -> None:
    twin = trained()
    for widths in ({"depth": 3}, {"depth": 2}, {"depth": 2, "stem.o": 6}, {"depth": 1}):
        plain, fitted = surgery.shrink(twin, widths), surgery.shrink(twin, widths, refit=DATA)
        assert len(fitted.layers) == widths["depth"]
        assert far(fitted(HELD), twin(HELD)) < 0.8 * far(plain(HELD), twin(HELD)), widths


def test_what_is_fitted_makes_up_for_the_stream_behind_the_gap() -> None:
    """Where a block is gone, the next one that adds to the stream is fitted to what the stream lacks."""
    twin = trained()
    plain, fitted = surgery.shrink(twin, {"depth": 2}), surgery.shrink(twin, {"depth": 2}, refit=DATA)
    stream = far(seen(fitted, "layers.1"), seen(twin, "layers.3"))
    assert stream < 0.9 * far(seen(plain, "layers.1"), seen(twin, "layers.3"))


def seen(model: nn.Module, path: str) -> Tensor:
    """What a module gives."""
    found: list[Tensor] = []
    handle = model.get_submodule(path).register_forward_hook(lambda *call: found.append(call[-1]))
    model(HELD)
    handle.remove()
    return found[0].detach()


def test_names_that_have_moved_up_are_not_mistaken_for_others() -> None:
    """A block that reads nothing else than in the full model stays as it is: nothing of another one comes into it."""
    torch.manual_seed(0)
    model = Deep(4)
    with torch.no_grad():
        for unit in (0, 1):  # they do nothing, so that the model without them is the model
            model.layers[unit].get_parameter("down.weight").zero_()
            model.layers[unit].get_parameter("down.bias").zero_()
    twin = surgery.wrap(model, DATA[0], depth={"layers.depth": [2, 3, 0, 1]}).eval()
    fitted = surgery.shrink(twin, {"depth": 2}, refit=DATA)
    for name, value in fitted.layers.named_parameters():
        number, _, rest = name.partition(".")
        torch.testing.assert_close(value, twin.layers.get_parameter(f"{int(number) + 2}.{rest}"), rtol=1e-3, atol=1e-3)


def test_nested_weights_serve_every_depth() -> None:
    twin = trained()
    family = surgery.nest(twin, DATA, widths=[1.0, {"depth": 3}, {"depth": 2}], weights=[8.0, 1.0, 1.0])
    assert len(family.layers) == 4
    again = surgery.wrap(family, DATA[0], depth={"layers.depth": ORDER}).eval()
    for depth in (3, 2):
        before, after = (surgery.shrink(one, {"depth": depth})(HELD) for one in (twin, again))
        assert far(after, twin(HELD)) < far(before, twin(HELD))
    assert far(again(HELD), twin(HELD)) < 0.2


def test_statistics_are_estimated_on_the_batches_of_a_refit() -> None:
    twin = deep_cnn(3)
    fitted = surgery.shrink(twin, {"depth": 2}, refit=[IMAGES, IMAGES + 0.1])
    assert isinstance(fitted, DeepCNN) and len(fitted.blocks) == 2
    assert int(fitted.get_buffer("blocks.1.norm.num_batches_tracked")) == 2
