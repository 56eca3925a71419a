"""`train_step`: one batch at several widths, in a loop of anyone's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import surgery
from surgery.errors import InputError, WidthError
from surgery.twin.elastic import state_of
from tests.copies import pickled
from tests.small_models import mlp

X = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 3


def net(seed: int = 0) -> nn.Sequential:
    return mlp(6, 16, 8, 3, norm=True, seed=seed)


def twin(**options: Any) -> nn.Sequential:
    return surgery.wrap(net().double(), X.double(), **options).train()


def loss(output: Tensor) -> Tensor:
    return F.cross_entropy(output, Y)


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters()]


def by_hand(
    wrapped: nn.Module, widths: list[Any], teacher: Tensor | None = None, weight: float = 1.0, labels: float = 0.5
) -> list[Tensor]:
    """The definition: the labels at full width; the labels and the divergence from the full output at the others."""
    with surgery.at_widths(wrapped, 1.0):
        full = wrapped(X.double())
        loss(full).backward()
    target = (full if teacher is None else teacher).detach().log_softmax(-1)
    for width in widths:
        with surgery.at_widths(wrapped, width):
            output = wrapped(X.double())
            divergence = F.kl_div(output.log_softmax(-1), target, log_target=True, reduction="batchmean")
            (weight / len(widths) * (labels * loss(output) + (1 - labels) * divergence)).backward()
    return gradients(wrapped)


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_the_gradients_are_those_of_the_definition() -> None:
    widths = [0.25, {"0.o": 5, "3.o": 2}]
    wrapped = twin()
    value = surgery.train_step(wrapped, X.double(), loss, narrow=widths)
    assert_close(gradients(wrapped), by_hand(twin(), widths))
    assert not value.requires_grad and value == loss(net().double().train()(X.double()))


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_narrow_widths_count_by_their_mean(weight: float) -> None:
    widths = [0.25, 0.5, {"0.o": 5}]
    wrapped = twin()
    surgery.train_step(wrapped, X.double(), loss, narrow=widths, weight=weight)
    assert_close(gradients(wrapped), by_hand(twin(), widths, weight=weight))


@pytest.mark.parametrize("labels", [0.0, 0.25, 1.0])
def test_narrow_widths_learn_from_the_labels_and_from_the_full_width(labels: float) -> None:
    wrapped = twin()
    surgery.train_step(wrapped, X.double(), loss, narrow=[0.25, 0.5], labels=labels)
    assert_close(gradients(wrapped), by_hand(twin(), [0.25, 0.5], labels=labels))


def test_the_draw_of_the_twin_is_used() -> None:
    wrapped = twin(draw=surgery.grid([0.25]))
    surgery.train_step(wrapped, X.double(), loss)
    assert_close(gradients(wrapped), by_hand(twin(), [0.25]))


def test_a_frozen_teacher_speaks_in_eval_mode_and_learns_nothing() -> None:
    teacher = net(1).double().train()
    wrapped = twin()
    surgery.train_step(wrapped, X.double(), loss, narrow=[0.5], teacher=teacher)
    assert teacher.training and all(p.grad is None for p in teacher.parameters())
    assert_close(gradients(wrapped), by_hand(twin(), [0.5], teacher.eval()(X.double())))


def test_running_statistics_are_those_of_the_full_width() -> None:
    wrapped, plain = twin(), net().double().train()
    surgery.train_step(wrapped, X.double(), loss)
    plain(X.double())
    assert torch.equal(wrapped[1].running_mean, plain[1].running_mean)
    assert wrapped[1].num_batches_tracked == 1 and wrapped[1].track_running_stats


# --- what the output may be ---


class Says(nn.Module):
    """A net whose output is what `make` gives for its logits (B, C)."""

    def __init__(self, make: Any):
        super().__init__()
        self.net, self.make = net(), make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.net(x))


def images(logits: Tensor) -> Tensor:
    """Logits (B, C, H, W) with the classes in dimension 1, and a width of the image equal to their number."""
    return logits[:, :, None, None] * torch.ones(2, 3)


CROSS_ENTROPIES = {
    "a tensor": (lambda z: z, loss, -1),
    "an object": (lambda z: SimpleNamespace(logits=z, loss=loss(z)), lambda o: o.loss, -1),
    "a dict": (lambda z: {"logits": z, "loss": loss(z)}, lambda o: o["loss"], -1),
    "tokens": (
        lambda z: z[:, None].expand(-1, 5, -1),
        lambda o: F.cross_entropy(o.flatten(0, 1), Y.repeat_interleave(5)),
        -1,
    ),
    "images": (images, lambda o: F.cross_entropy(o, Y[:, None, None].expand(-1, 2, 3)), 1),
    "smoothed": (lambda z: z, lambda o: F.cross_entropy(o, Y, label_smoothing=0.1), -1),
    "a margin": (lambda z: z, lambda o: F.multi_margin_loss(o, Y), -1),
}


@pytest.mark.parametrize("name", CROSS_ENTROPIES)
def test_the_classes_are_found_by_the_loss(name: str) -> None:
    make, loss_of, dim = CROSS_ENTROPIES[name]
    results = []
    for distil in (None, surgery.kl(dim)):
        wrapped = surgery.wrap(Says(make), X).train()
        surgery.train_step(wrapped, X, loss_of, narrow=[0.5], distil=distil)
        results.append(gradients(wrapped))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


OTHERS = {
    "counts": (lambda z: z, lambda o: F.poisson_nll_loss(o, F.one_hot(Y, 3).float())),
    "labels that do not exclude each other, weighted": (
        lambda z: z,
        lambda o: F.binary_cross_entropy_with_logits(o, F.one_hot(Y, 3).float(), pos_weight=torch.ones(3) * 7),
    ),
    "a number for each row": (lambda z: z[:, 0], lambda o: o.pow(4).mean()),
    "a pair": (lambda z: (z, z), lambda o: loss(o[0])),
    "integers": (lambda z: SimpleNamespace(logits=z.argmax(-1), loss=loss(z)), lambda o: o.loss),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_outputs_need_to_be_told_what_to_learn(name: str) -> None:
    make, loss_of = OTHERS[name]
    wrapped = surgery.wrap(Says(make), X).train()
    surgery.set_widths(wrapped, 0.5)
    before = surgery.widths(wrapped)
    with pytest.raises(InputError, match="Pass distil="):
        surgery.train_step(wrapped, X, loss_of)
    assert surgery.widths(wrapped) == before and wrapped.net[1].track_running_stats


@pytest.mark.parametrize("name", OTHERS)
def test_any_output_may_learn_from_the_loss_alone(name: str) -> None:
    make, loss_of = OTHERS[name]
    wrapped, other = (surgery.wrap(Says(make), X).train() for _ in range(2))
    teacher = pytest.fail  # nothing is asked of it
    surgery.train_step(wrapped, X, loss_of, narrow=[0.5], labels=1.0, teacher=teacher)
    for width in (1.0, 0.5):
        other.net[1].track_running_stats = width == 1.0
        with surgery.at_widths(other, width):
            loss_of(other(X)).backward()
    for a, b in zip(gradients(wrapped), gradients(other), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_distil_of_ones_own() -> None:
    wrapped, other = twin(), twin()
    target = X.double() @ torch.ones(6, 3).double()
    mse = lambda narrow, full: F.mse_loss(narrow, full)  # noqa: E731
    surgery.train_step(wrapped, X.double(), lambda o: F.mse_loss(o, target), narrow=[0.5], distil=mse)
    with surgery.at_widths(other, 1.0):
        full = other(X.double())
        F.mse_loss(full, target).backward()
    with surgery.at_widths(other, 0.5):
        narrow = other(X.double())
        (0.5 * F.mse_loss(narrow, target) + 0.5 * F.mse_loss(narrow, full.detach())).backward()
    assert_close(gradients(wrapped), gradients(other))


def test_a_first_batch_without_a_gradient_decides_nothing() -> None:
    wrapped = surgery.wrap(Says(images), X).train()
    ignored = torch.full((12, 2, 3), -100)
    surgery.train_step(wrapped, X, lambda o: F.cross_entropy(o, ignored, reduction="sum"), narrow=[0.5])
    assert not state_of(wrapped).class_dims
    surgery.train_step(wrapped, X, CROSS_ENTROPIES["images"][1], narrow=[0.5])
    assert list(state_of(wrapped).class_dims.values()) == [1]


def test_each_loss_is_asked_what_it_is() -> None:
    """A model that has learnt classes is not taught a regression by a divergence of distributions."""
    wrapped = surgery.wrap(Says(images), X).train()
    surgery.train_step(wrapped, X, CROSS_ENTROPIES["images"][1], narrow=[0.5])
    with pytest.raises(InputError, match="no softmax cross-entropy"):
        surgery.train_step(wrapped, X, lambda o: o.pow(4).mean(), narrow=[0.5])
    pickled(copy.deepcopy(state_of(wrapped).class_dims))


# --- where it runs ---


def test_inputs_are_tuples_and_dicts_too() -> None:
    results = []
    for inputs in (X.double(), (X.double(),), {"input": X.double()}, surgery.inputs(X.double())):
        wrapped = twin()
        surgery.train_step(wrapped, inputs, loss)
        results.append(gradients(wrapped))
    for found in results[1:]:
        assert_close(found, results[0])


def test_widths_repeat_from_a_seed_and_keep_to_the_minimum() -> None:
    seen: list[list[int]] = []
    for seed in (1, 1, 2):
        wrapped = twin(minimum={"0.o": 3}, generator=torch.Generator().manual_seed(seed))
        found: list[int] = []
        wrapped[0].register_forward_hook(lambda m, a, y, found=found: found.append(y.shape[-1]))
        for _ in range(12):
            surgery.train_step(wrapped, X.double(), loss)
        seen.append(found)
    assert seen[0] == seen[1] != seen[2]
    narrow = [width for i, width in enumerate(seen[0]) if i % 4]
    assert set(seen[0][::4]) == {16} and min(seen[0]) == 3 and len(set(narrow)) > 1


def test_a_twin_without_example_inputs_meets_its_first_batch() -> None:
    wrapped = surgery.wrap(net().double()).train()
    surgery.train_step(wrapped, X.double(), loss, narrow=[0.25])
    assert_close(gradients(wrapped), by_hand(twin(), [0.25]))


def test_gradients_are_added_and_backward_is_called_with_each_loss() -> None:
    wrapped, given = twin(), []

    def backward(value: Tensor) -> None:
        given.append(value.detach())
        (2 * value).backward()

    surgery.train_step(wrapped, X.double(), loss, narrow=[0.5, 0.25], backward=backward)
    once = twin()
    value = surgery.train_step(once, X.double(), loss, narrow=[0.5, 0.25])
    assert len(given) == 3 and given[0] == value
    assert_close(gradients(wrapped), [2 * g for g in gradients(once)])
    surgery.train_step(once, X.double(), loss, narrow=[0.5, 0.25])
    assert_close(gradients(wrapped), gradients(once))


def test_under_autocast_each_width_is_what_it_is_alone() -> None:
    wrapped, parts = surgery.wrap(net(), X).train(), []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        surgery.train_step(wrapped, X, loss, narrow=[0.5])
    other = surgery.wrap(net(), X).train()
    for width in (1.0, 0.5):
        with torch.autocast("cpu", dtype=torch.bfloat16), surgery.at_widths(other, width):
            parts.append(other(X))
    loss(parts[0]).backward()
    (0.5 * loss(parts[1]) + 0.5 * F.cross_entropy(parts[1], parts[0].detach().softmax(-1))).backward()
    found, expected = (torch.cat([g.flatten() for g in gradients(model)]) for model in (wrapped, other))
    assert (found - expected).norm() < 0.02 * expected.norm()


def test_the_full_width_may_stay_what_it_is() -> None:
    """Narrow widths learn as with any teacher; there is no pass at full width, and there are no gradients of one."""
    teacher = net(1).double().eval()
    alone, both, full = twin(), twin(), net().double().train()
    value = surgery.train_step(alone, X.double(), loss, narrow=[0.5, 0.5], teacher=teacher, full=False)
    surgery.train_step(both, X.double(), loss, narrow=[0.5], teacher=teacher)
    loss(full(X.double())).backward()
    other = twin()
    with torch.no_grad(), surgery.at_widths(other, 0.5):
        output = other(X.double())
    learnt = 0.5 * loss(output) + 0.5 * F.cross_entropy(output, teacher(X.double()).softmax(-1))
    assert_close([value], [learnt.detach()])
    assert all(p.grad is None for p in teacher.parameters())
    narrow = [p.grad if p.grad is not None else torch.zeros_like(p) for p in alone.parameters()]
    assert_close([a + b for a, b in zip(narrow, gradients(full), strict=True)], gradients(both))


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("distil", [None, F.mse_loss])
def test_a_teacher_may_keep_what_it_says_or_run_in_inference_mode(full: bool, distil: Callable | None) -> None:
    model = net(1).double().eval()
    kept, found = model(X.double()).detach(), []
    for teacher in (lambda _: kept, torch.inference_mode()(lambda x: model(x)), model):
        wrapped = twin()
        surgery.train_step(wrapped, X.double(), loss, narrow=[0.5], teacher=teacher, distil=distil, full=full)
        found.append([torch.zeros_like(p) if p.grad is None else p.grad for p in wrapped.parameters()])
    assert_close(found[0], found[2])
    assert_close(found[1], found[2])
    assert not kept.requires_grad and kept.grad is None


def test_somebody_must_be_the_full_width() -> None:
    with pytest.raises(surgery.InputError, match="full=False leaves the full width as it is: give the model"):
        surgery.train_step(twin(), X.double(), loss, full=False)


def test_a_teacher_that_shares_the_parameters_takes_no_gradients_away() -> None:
    results = []
    for teacher in (None, surgery.unwrap):
        wrapped = surgery.wrap(net(), X).train()
        wrapped[1].eval()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            surgery.train_step(wrapped, X, loss, teacher=teacher and teacher(wrapped), narrow=[0.5])
        results.append(gradients(wrapped))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_checkpoints_recompute_at_their_own_widths() -> None:
    results = []
    for reentrant in (None, False, True):
        wrapped = surgery.wrap(Checked(reentrant).double(), X.double()).train()
        surgery.train_step(wrapped, X.double(), loss)
        surgery.train_step(wrapped, X.double(), loss)
        results.append(gradients(wrapped))
    for found in results[1:]:
        assert_close(found, results[0])


class Checked(nn.Module):
    def __init__(self, reentrant: bool | None):
        super().__init__()
        self.net, self.reentrant = net(), reentrant
        self.net[1] = nn.LayerNorm(16)  # statistics of a BatchNorm would be counted twice, as in any model

    def forward(self, x: Tensor) -> Tensor:
        if self.reentrant is None:
            return self.net(x)
        x = checkpoint(lambda x: self.net[1](self.net[0](x)), x.clone().requires_grad_(), use_reentrant=self.reentrant)
        return self.net[5](self.net[4](self.net[3](self.net[2](x))))


# --- what goes wrong ---


def _boom(*_: Any) -> Any:
    raise ZeroDivisionError


FAILURES = [
    (dict(loss=lambda output: output), InputError, r"loss must return a tensor of one element, got \[12, 3\]"),
    (
        dict(loss=lambda output: 1.0),
        InputError,
        "one element, got a float: return the tensor itself",
    ),
    (dict(loss=_boom), ZeroDivisionError, None),
    (dict(distil=_boom), ZeroDivisionError, None),
    (dict(distil=lambda narrow, full: narrow), InputError, "distil must return a tensor of one element"),
    (dict(backward=_boom), ZeroDivisionError, None),
    (dict(teacher=_boom), ZeroDivisionError, None),
    (dict(narrow=0.5), InputError, "narrow is a sequence of one or more draws and widths, got 0.5"),
    (dict(narrow=[]), InputError, "narrow is a sequence of one or more draws and widths"),
    (dict(weight=-1), InputError, "weight is a number of at least 0, got -1"),
    (dict(labels=1.5), InputError, r"labels is a share in \[0, 1\], got 1.5"),
    (dict(labels=True), InputError, r"labels is a share in \[0, 1\], got True"),
    (dict(narrow=[{"nobody": 1}]), WidthError, "no group matches 'nobody'"),
    (dict(narrow=[_boom]), ZeroDivisionError, None),
    (dict(inputs=X[:, :2].double()), RuntimeError, None),
]


@pytest.mark.parametrize(("options", "error", "message"), FAILURES)
def test_a_failure_leaves_widths_and_modes(options: dict[str, Any], error: type, message: str) -> None:
    wrapped = twin()
    surgery.set_widths(wrapped, 0.5)
    given = {"inputs": X.double(), "loss": loss, **options}
    with pytest.raises(error, match=message):
        surgery.train_step(wrapped, **given)
    assert surgery.widths(wrapped) == {"0.o": 8, "3.o": 4} and wrapped[0].weight.shape == (8, 6)
    assert all(module.training for module in wrapped.modules()) and wrapped[1].track_running_stats
    assert wrapped(X.double()).shape == (12, 3)


def test_a_plain_model_is_refused() -> None:
    with pytest.raises(InputError, match="Sequential is not wrapped"):
        surgery.train_step(net(), X, loss)


# --- in parallel ---


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    if not torch.distributed.is_gloo_available():
        pytest.skip("torch is built without gloo")
    dist = torch.distributed
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def _ddp(wrapped: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(wrapped)


def _fsdp(wrapped: nn.Module) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    return fully_shard(wrapped, mesh=init_device_mesh("cpu", (1,)))


@pytest.mark.parametrize("parallel", [_ddp, _fsdp])
def test_a_step_in_parallel_is_a_step(process_group: None, parallel: Callable[[nn.Module], nn.Module]) -> None:
    results = []
    for change in (parallel, lambda wrapped: wrapped):
        model = change(twin())
        for _ in range(3):
            surgery.train_step(model, X.double(), loss, narrow=[0.25, surgery.shared()])
        results.append([getattr(p.grad, "full_tensor", lambda p=p: p.grad)() for p in model.parameters()])
    assert_close(*results)
