"""A layer of one's own, with code inside that no rule can read: eight lines say what its axes are, and it can be cut.

python examples/custom_layer.py
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--quick", action="store_true", help="a few steps")
options = parser.parse_args()
torch.manual_seed(0)


# B batch, T steps, C features


class Scan(torch.autograd.Function):
    """h_t = a h_(t-1) + x_t, and its gradient, in numpy: it stands for a kernel of your own."""

    @staticmethod
    def forward(ctx, x: Tensor, a: Tensor) -> Tensor:
        h, last, decay = x.detach().numpy().copy(), 0.0, a.detach().numpy()
        for t in range(h.shape[1]):
            h[:, t] += decay * last
            last = h[:, t]
        ctx.save_for_backward(a, torch.from_numpy(h))
        return torch.from_numpy(h)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, h = ctx.saved_tensors
        back = grad.clone()
        for t in reversed(range(back.shape[1] - 1)):
            back[:, t] += a * back[:, t + 1]
        return back, (back[:, 1:] * h[:, :-1]).sum((0, 1))


class Memory(nn.Module):
    """A leaky sum over time of W x, with a decay for each feature; (B, T, I) to (B, T, C)."""

    def __init__(self, inputs: int, features: int):
        super().__init__()
        self.inputs, self.features = inputs, features
        self.weight = nn.Parameter(torch.randn(features, inputs) / inputs**0.5)
        self.decay = nn.Parameter(torch.linspace(-2.0, 2.0, features))

    def forward(self, x: Tensor) -> Tensor:
        return Scan.apply(x @ self.weight.T, self.decay.sigmoid())


x = torch.randn(512, 12, 4)
y = (x.cumsum(1)[..., 0] > 0).long()  # the sign of a sum over time
model = nn.Sequential(Memory(4, 48), nn.ReLU(), Memory(48, 32), nn.ReLU(), nn.Linear(32, 2))

print("Without an adapter, what the layers do is not known, so what they make is fixed:\n")
print(surgery.inspect(model, x[:2]))


@surgery.adapter(Memory)
class MemoryAdapter(surgery.Adapter):
    """h_t = σ(decay) h_(t-1) + W x_t. Positions, whose order matters, are marked by `~`."""

    axes = "b ~t i -> b ~t o"
    params = {"weight": "o i", "decay": "o"}
    sizes = {"i": "inputs", "o": "features"}
    macs = ("output", "weight")


# The declaration is tested: each axis is permuted everywhere, and cut, and outputs are compared.
print("\nchecked:", surgery.check_adapter(Memory(6, 5), torch.randn(3, 7, 6)), "\n")
print(surgery.inspect(model, x[:2]))

wrapped = surgery.wrap(model, x[:2]).train()
optimizer = torch.optim.Adam(wrapped.parameters(), 1e-2)
for _ in range(20 if options.quick else 300):
    rows = torch.randint(448, (64,))
    optimizer.zero_grad()
    surgery.train_step(
        wrapped, x[rows], lambda output, rows=rows: F.cross_entropy(output.flatten(0, 1), y[rows].flatten())
    )
    optimizer.step()

curve = surgery.sweep(
    wrapped, lambda model: (model(x[448:]).argmax(-1) == y[448:]).float().mean(), progress=False, measure_latency=False
)
print(f"\n{curve}\n")
small = surgery.shrink(wrapped, curve.choose(max_macs="30%"))  # the layer's own class, with its own attributes
shape = tuple(small[0].weight.shape)
print(f"small[0]: {type(small[0]).__name__}({small[0].inputs}, {small[0].features}), weight {shape}")
