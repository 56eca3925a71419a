"""Steps that leave what no pass has touched: values and state beyond the widths stay, all else is an ordinary step."""

import copy
import gc
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from surgery import InputError

X, Y = (
    torch.randn(16, 6, generator=torch.Generator().manual_seed(1)),
    torch.randn(16, 2, generator=torch.Generator().manual_seed(2)),
)


def decaying(name, **options):
    return lambda parameters: getattr(torch.optim, name)(parameters, 0.01, **options)


OPTIMIZERS = {
    "SGD": decaying("SGD", momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": decaying("Adam", weight_decay=0.1, amsgrad=True, foreach=True),
    "AdamW, fused": decaying("AdamW", weight_decay=0.1, fused=True),
    "RMSprop": decaying("RMSprop", momentum=0.9, weight_decay=0.1, centered=True),
    "Adagrad": decaying("Adagrad", weight_decay=0.1),
    "NAdam": decaying("NAdam", weight_decay=0.1),
    "Rprop": decaying("Rprop"),
    "Adamax": decaying("Adamax", weight_decay=0.1),
}


def twin_of():
    torch.manual_seed(0)
    layers = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)
    return surgery.wrap(nn.Sequential(*layers), X).train()


def step(twin, optimizer, width):
    optimizer.zero_grad()
    with surgery.at_widths(twin, width):
        F.mse_loss(twin(X), Y).backward()
    optimizer.step()


def seen(optimizer, weight):
    """A weight, and the optimizer's state of its shape."""
    state = {k: v for k, v in optimizer.state[weight].items() if v is not None and v.shape == weight.shape}
    return {name: value.detach().clone() for name, value in {"weight": weight, **state}.items()}


def beyond(value, width=4):
    """What of an 8x8 matrix is no part of its first rows and columns."""
    return torch.cat([value[:width, width:].flatten(), value[width:].flatten()])


def trained(make, touched, widths=(1.0, 1.0, 0.5, 0.5, 0.5)):
    """What is there after all steps, and before the third."""
    twin = twin_of()
    optimizer = make(twin.parameters())
    if touched:
        surgery.step_touched(optimizer, twin)
    before = {}
    for i, width in enumerate(widths):
        if i == 2:
            before = seen(optimizer, twin[2].weight)
        step(twin, optimizer, width)
    return seen(optimizer, twin[2].weight), before


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_lies_beyond_stays_and_the_rest_is_stepped_as_always(name):
    after, before = trained(OPTIMIZERS[name], True)
    usual, _ = trained(OPTIMIZERS[name], False)
    assert after.keys() == before.keys() and len(after) > 1
    for key, value in after.items():
        assert torch.equal(beyond(value), beyond(before[key])), key
        assert torch.equal(value[:4, :4], usual[key][:4, :4]), key
    if name != "Rprop":  # its steps follow the sign of the last gradients, which are zero
        assert not torch.equal(beyond(usual["weight"]), beyond(before["weight"]))


@pytest.mark.parametrize("name", ["Muon", "Adafactor"])
def test_values_stay_where_a_step_mixes_elements(name):
    twin = twin_of()
    matrices = [p for p in twin.parameters() if p.dim() == 2]
    optimizer = getattr(torch.optim, name)(matrices, 0.05, weight_decay=0.1)
    surgery.step_touched(optimizer, twin)
    step(twin, optimizer, 1.0)
    before = seen(optimizer, twin[2].weight)
    for _ in range(3):
        step(twin, optimizer, 0.5)
    after = seen(optimizer, twin[2].weight)
    assert all(torch.equal(beyond(value), beyond(before[key])) for key, value in after.items())
    assert not torch.equal(after["weight"][:4, :4], before["weight"][:4, :4])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_with_the_full_width_is_what_it_was(name):
    found = []
    for touched in (False, True):
        twin = twin_of()
        optimizer = OPTIMIZERS[name](twin.parameters())
        if touched:
            surgery.step_touched(optimizer, twin)
        for _ in range(3):
            optimizer.zero_grad()
            surgery.train_step(twin, X, lambda output: F.mse_loss(output, Y), narrow=[0.5, 0.25])
            optimizer.step()
        found.append(seen(optimizer, twin[2].weight))
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())


def test_passes_since_the_last_step_count_together():
    twin = twin_of()
    optimizer = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    surgery.step_touched(optimizer, twin)
    step(twin, optimizer, 1.0)
    before = twin[2].weight.detach().clone()
    optimizer.zero_grad()
    for widths in ({"0.o": 2, "2.o": 6}, {"0.o": 5, "2.o": 3}):
        with surgery.at_widths(twin, widths):
            F.mse_loss(twin(X), Y).backward()
    optimizer.step()
    touched = torch.zeros(8, 8, dtype=torch.bool)
    touched[:6, :2] = touched[:3, :5] = True
    assert torch.equal(twin[2].weight != before, touched)
    step(twin, optimizer, 0.25)  # passes of steps before do not count
    assert torch.equal(twin[2].weight[3:], twin[2].weight[3:].where(touched[3:], before[3:]))


def narrow_alone(twin, optimizer):
    teacher = copy.deepcopy(surgery.unwrap(twin)).eval()
    narrow = {"narrow": [0.5, 0.25], "full": False, "teacher": teacher}
    for _ in range(3):
        optimizer.zero_grad()
        surgery.train_step(twin, X, lambda output: F.mse_loss(output, Y), **narrow)
        optimizer.step()


def loop(twin, optimizer):
    for _ in range(6):
        optimizer.zero_grad()
        F.mse_loss(twin(X), Y).backward()
        optimizer.step()


def with_closures(twin, optimizer):
    def closure():
        optimizer.zero_grad()
        loss = F.mse_loss(twin(X), Y)
        loss.backward()
        return loss

    for _ in range(6):
        optimizer.step(closure)


def checkpointed(reentrant):
    def run(twin, optimizer):
        x = X.clone().requires_grad_()
        for _ in range(6):
            optimizer.zero_grad()
            F.mse_loss(torch.utils.checkpoint.checkpoint(twin, x, use_reentrant=reentrant), Y).backward()
            optimizer.step()

    return run


def part_by_part(twin, optimizer):
    with surgery.at_widths(twin, 0.5):
        optimizer.zero_grad()
        F.mse_loss(twin[4](twin[3](twin[2](twin[1](twin[0](X))))), Y).backward()
        optimizer.step()


def in_another_module(twin, optimizer):
    outer = nn.Sequential(twin)
    for _ in range(6):
        optimizer.zero_grad()
        F.mse_loss(outer(X), Y).backward()
        optimizer.step()


def scaled(twin, optimizer):
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for _ in range(6):
        optimizer.zero_grad()
        scaler.scale(F.mse_loss(twin(X), Y)).backward()
        scaler.step(optimizer)
        scaler.update()


WAYS = {
    "narrow_alone": narrow_alone, "loop": loop, "closures": with_closures, "checkpoint": checkpointed(False),
    "reentrant checkpoint": checkpointed(True), "parts": part_by_part, "inside": in_another_module, "scaler": scaled,
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_ways_of_training(way):
    """Of a twin that never draws more than a half, what is beyond stays bit for bit, and the half is as always."""
    found = []
    for touched in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        twin = surgery.wrap(model, X, draw=surgery.grid([0.5])).train()
        optimizer = torch.optim.AdamW(twin.parameters(), 0.01, weight_decay=0.1)
        if touched:
            surgery.step_touched(optimizer, twin)
        before = model[2].weight.detach().clone()
        WAYS[way](twin, optimizer)
        found.append(model[2].weight.detach().clone())
    assert torch.equal(beyond(found[1]), beyond(before))
    assert not torch.equal(beyond(found[0]), beyond(before))
    assert torch.equal(found[0][:4, :4], found[1][:4, :4]) and not torch.equal(found[1][:4, :4], before[:4, :4])


def test_accelerate():
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    twin = twin_of()
    accelerator = accelerate.Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(twin, torch.optim.AdamW(twin.parameters(), 0.01, weight_decay=0.1))
    surgery.step_touched(optimizer, model)
    for width in (1.0, 0.5, 0.5):
        before = twin[2].weight.detach().clone()
        optimizer.zero_grad()
        with surgery.at_widths(twin, width):
            accelerator.backward(F.mse_loss(model(X), Y))
        optimizer.step()
    assert torch.equal(beyond(twin[2].weight), beyond(before))
    assert not torch.equal(twin[2].weight[:4, :4], before[:4, :4])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")  # its own
def test_lightning():
    lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")

    class Regressor(lightning.LightningModule):
        def __init__(self, twin):
            super().__init__()
            self.twin = twin

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.twin.parameters(), 0.01, weight_decay=0.1)
            surgery.step_touched(optimizer, self.twin)
            return optimizer

        def training_step(self, batch, index):
            return F.mse_loss(self.twin(batch[0]), batch[1])

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    before = model[2].weight.detach().clone()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_epochs=2, enable_model_summary=False, **options)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=8)
    trainer.fit(Regressor(surgery.wrap(model, X, draw=surgery.grid([0.5]))), loader)
    assert torch.equal(beyond(model[2].weight), beyond(before))
    assert not torch.equal(model[2].weight[:4, :4], before[:4, :4])


def test_what_has_got_a_gradient_in_another_way_is_stepped():
    twin = twin_of()
    optimizer = torch.optim.SGD(twin.parameters(), 0.1)
    surgery.step_touched(optimizer, twin)
    before = twin[2].weight.detach().clone()
    with surgery.at_widths(twin, 0.5):
        loss = F.mse_loss(twin(X), Y)
    (loss + twin[2].weight[7].sum()).backward()
    optimizer.step()
    assert torch.allclose(twin[2].weight[7], before[7] - 0.1)
    assert torch.equal(twin[2].weight[4:7], before[4:7])


def test_a_step_without_a_pass_is_an_ordinary_one():
    twin = twin_of()
    optimizer = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9)
    surgery.step_touched(optimizer, twin)
    step(twin, optimizer, 1.0)
    before = twin[2].weight.detach().clone()
    optimizer.step()
    assert not torch.equal(twin[2].weight[4:], before[4:])


def test_passes_without_gradients_touch_nothing():
    twin = twin_of()
    optimizer = torch.optim.SGD(twin.parameters(), 0.1, weight_decay=0.1)
    surgery.step_touched(optimizer, twin)
    before = twin[2].weight.detach().clone()
    optimizer.zero_grad()
    with surgery.at_widths(twin, 0.5):
        F.mse_loss(twin(X), Y).backward()
    surgery.progress(twin, lambda model: float(model(X).mean()), widths=(1.0, 0.5))
    optimizer.step()
    assert torch.equal(beyond(twin[2].weight), beyond(before))


def test_groups_other_models_and_several_optimizers():
    twin, other = twin_of(), nn.Linear(3, 3)
    first = torch.optim.SGD(
        [{"params": [twin[0].weight, *other.parameters()]}, {"params": [twin[2].weight], "lr": 0.5}],
        0.1, weight_decay=0.1,
    )  # fmt: skip
    second = torch.optim.AdamW(twin[4].parameters(), 0.1)
    for optimizer in (first, second):
        surgery.step_touched(optimizer, twin)
    before = [p.detach().clone() for p in (twin[0].weight, twin[2].weight, twin[4].weight, other.weight)]
    with surgery.at_widths(twin, 0.5):
        (F.mse_loss(twin(X), Y) + 0 * sum(p.sum() for p in other.parameters())).backward()
    first.step()
    second.step()
    assert torch.equal(twin[0].weight[4:], before[0][4:]) and not torch.equal(twin[0].weight[:4], before[0][:4])
    assert torch.equal(beyond(twin[2].weight), beyond(before[1]))
    assert torch.equal(twin[4].weight[:, 4:], before[2][:, 4:]) and not torch.equal(twin[4].weight, before[2])
    assert torch.allclose(other.weight, before[3] * 0.99)


def test_axes_within_products_and_tied_tables():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.qkv, self.out = nn.Embedding(11, 8), nn.Linear(8, 24), nn.Linear(8, 8)
            self.head = nn.Linear(8, 11, bias=False)
            self.head.weight = self.table.weight

        def forward(self, tokens):
            x = self.table(tokens)
            q, k, v = self.qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
            return self.head(x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))

    torch.manual_seed(0)
    tokens = torch.randint(11, (4, 5))
    model = Model()
    twin = surgery.wrap(model, tokens).train()
    optimizer = torch.optim.AdamW(twin.parameters(), 0.01, weight_decay=0.5)
    surgery.step_touched(optimizer, twin)
    before = copy.deepcopy(model.state_dict())
    with surgery.at_widths(twin, 0.5):
        F.cross_entropy(twin(tokens).flatten(0, 1), tokens.flatten()).backward()
    optimizer.step()
    rows = torch.zeros(3, 2, 4, dtype=torch.bool)
    rows[:, :1, :2] = True
    columns = torch.arange(8) < 4
    assert torch.equal(model.qkv.weight != before["qkv.weight"], rows.flatten()[:, None] & columns)
    assert torch.equal(model.table.weight != before["table.weight"], columns.expand(11, 8))


def test_it_ends_and_copies_do_not_have_it():
    twin = twin_of()
    optimizer = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9)
    touched = surgery.step_touched(optimizer, twin)
    for other in (copy.deepcopy(twin), pickle.loads(pickle.dumps(twin))):
        other_optimizer = torch.optim.SGD(other.parameters(), 0.1, momentum=0.9)
        step(other, other_optimizer, 1.0)
        before = other[2].weight.detach().clone()
        step(other, other_optimizer, 0.5)
        assert not torch.equal(other[2].weight[4:], before[4:])
    step(twin, optimizer, 1.0)
    for _ in range(2):
        touched.remove()
    before = twin[2].weight.detach().clone()
    step(twin, optimizer, 0.5)
    assert not torch.equal(twin[2].weight[4:], before[4:])


def test_it_goes_with_the_optimizer():
    twin = twin_of()
    state = surgery.twin.elastic.state_of(twin)
    surgery.step_touched(torch.optim.SGD(twin.parameters(), 0.1), twin)
    gc.collect()
    assert not state.listeners


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # dynamo asks slices for it
def test_a_compiled_twin():
    twin = twin_of()
    optimizer = torch.optim.AdamW(twin.parameters(), 0.01, weight_decay=0.1)
    surgery.step_touched(optimizer, twin)
    twin.compile(backend="eager")
    for width in (0.75, 0.5, 0.25, 0.5, 0.75, 0.25, 0.5):  # a width is compiled when it comes again
        before = twin[2].weight.detach().clone()
        optimizer.zero_grad()
        with surgery.at_widths(twin, width):
            F.mse_loss(twin(X), Y).backward()
        optimizer.step()
        kept = round(8 * width)
        assert torch.equal(beyond(twin[2].weight, kept), beyond(before, kept))
        assert not torch.equal(twin[2].weight[:kept, :kept], before[:kept, :kept])


def test_what_is_refused():
    twin = twin_of()
    with pytest.raises(InputError, match="LBFGS"):
        surgery.step_touched(torch.optim.LBFGS(twin.parameters()), twin)
    with pytest.raises(InputError, match=r"no parameter of this model: make it from wrapped.parameters\(\)"):
        surgery.step_touched(torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1), twin)
    with pytest.raises(InputError, match=r"Sequential is no optimizer. The order is step_touched\(optimizer, wrapped"):
        surgery.step_touched(twin, twin)
    with pytest.raises(InputError, match="not wrapped"):
        surgery.step_touched(torch.optim.SGD(twin.parameters(), 0.1), nn.Linear(2, 2))
    with pytest.raises(InputError, match="wrapped without example inputs"):
        later = surgery.wrap(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)))
        surgery.step_touched(torch.optim.SGD(later.parameters(), 0.1), later)
